"""Mutated configs, data and checkpoints: each ends in one line that names what to mend, or in a right run.

Every case runs in a fork of the test process, which has imported everything and made the worlds.
"""
