"""What ``make setup`` runs: build ``.venv`` from nothing, with the standard library alone."""
