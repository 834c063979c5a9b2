"""Command lines of the project. A package, so that ``python -m tools.setup`` runs before anything is installed."""
