"""The one error of the set-up."""


class SetupError(Exception):
    """One sentence for the user: what is missing, and what to do about it."""
