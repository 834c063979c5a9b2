"""What every room needs: errors, random state, configs, models and their weights, logs, tables."""
