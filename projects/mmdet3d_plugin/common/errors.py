"""Errors that are meant for the person at the keyboard."""


class UserError(Exception):
    """Something that person can mend: a wrong path, a config that does not fit. Shown without a traceback."""
