"""Tests of the engine, on a toy detector that trains in a second."""
