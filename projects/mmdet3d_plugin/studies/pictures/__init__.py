"""What a model sees and what a recipe teaches, gathered from samples and drawn."""
