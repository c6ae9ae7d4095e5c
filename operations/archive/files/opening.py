"""Opens the archive that a location names: a directory, or a bucket."""

from pathlib import Path

from operations.archive.files.bucket import Bucket
from operations.archive.files.refusal import ArchiveError
from operations.archive.files.stores import Directory, Store
from operations.settings import ArchiveSettings

NOT_SET = "ARCHIVE_LOCATION is not set: name a directory, or s3://bucket/folder."


def open_store(settings: ArchiveSettings) -> Store:
    """Returns the archive's place. Raises ArchiveError if it is none that Footfall can use."""
    location = settings.archive_location
    if not location:
        raise ArchiveError(NOT_SET)
    scheme, separator, _ = location.partition("://")
    if not separator:
        return Directory(Path(location).absolute())
    if scheme == "s3":
        return Bucket(settings)
    raise ArchiveError(f"ARCHIVE_LOCATION begins with {scheme}://; Footfall knows directories and s3://.")
