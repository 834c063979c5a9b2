"""Operators, each behind one Python door."""
