"""Operators, each behind one Python function."""
