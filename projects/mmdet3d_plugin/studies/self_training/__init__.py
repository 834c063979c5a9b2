"""Self-training under sparse labels as a whole: its stages, and how good its banks are."""
