"""Why an archive is not written, not trusted or not restored."""


class ArchiveError(Exception):
    """Nothing more is done with the archive; the text is a sentence that says why, and what to do."""
