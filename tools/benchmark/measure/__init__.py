"""What the scripts of ``tools/benchmark`` do, once their command lines are read."""
