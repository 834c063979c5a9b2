"""Tests of the distillation losses."""
