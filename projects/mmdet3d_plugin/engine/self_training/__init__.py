"""Self-training under sparse labels: mining, and the training sets that follow."""
