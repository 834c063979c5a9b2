"""Errors that are meant for the person at the keyboard."""


class UserError(ValueError):
    """Something that person can mend: a wrong path, a config that does not fit. Shown as one line, without a traceback.

    It is a ``ValueError``, so that a library's user need not know this class to catch it.
    """
