"""Why an operator's command is refused."""


class RefusedError(Exception):
    """The state of the generations, of a rewrite or of the log does not allow it; the text says why, and what to do."""
