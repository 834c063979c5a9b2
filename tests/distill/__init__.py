"""Tests of the distiller."""
