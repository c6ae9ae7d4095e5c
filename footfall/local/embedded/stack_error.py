"""The error that the embedded stack raises."""


class StackError(Exception):
    """The embedded stack cannot start; the text says why and what to do next."""
