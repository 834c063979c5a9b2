"""What a config may name and must hold, checked before anything is built from it."""
