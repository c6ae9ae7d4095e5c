"""Why a step of a rewrite is refused."""


class RefusedError(Exception):
    """The state of the rewrite or of the log does not allow the command; the text says why, and what to do."""
