"""The one error of the embedded stack."""


class StackError(Exception):
    """The embedded stack cannot start; the text says why and what to do next."""
