"""Servers for Java that are archives of Maven Central, unpacked once in the cache."""

import hashlib
import os
import shutil
import tarfile
import urllib.request
import zipfile
from pathlib import Path


def distribution(name: str, url: str, sha256: str) -> Path | None:
    """Returns the folder of a server.

    Args:
        name: Of the folder within the archive, `<server>-<version>`.
        url: Of the archive: `.zip` or `.tar.gz`.
        sha256: Of the archive.

    Returns:
        `<SERVER>_HOME`, if that is set; with FOOTFALL_LONG=1 the archive's; otherwise None.
    """
    home = os.environ.get(f"{name.partition('-')[0].upper()}_HOME")
    if home:
        return Path(home)
    return _fetched(name, url, sha256) if os.environ.get("FOOTFALL_LONG") else None


def _fetched(name: str, url: str, sha256: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "footfall-tests"
    home = cache / name
    if not home.exists():
        cache.mkdir(parents=True, exist_ok=True)
        archive = cache / url.rpartition("/")[2]
        with urllib.request.urlopen(url) as answer, archive.open("wb") as file:  # noqa: S310 - a constant
            shutil.copyfileobj(answer, file)
        if hashlib.sha256(archive.read_bytes()).hexdigest() != sha256:
            raise ValueError(f"{archive} is not the one that was expected")
        _unpack(archive, cache)
    return home


def _unpack(archive: Path, into: Path) -> None:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(into)  # noqa: S202 - its hash is known
    else:
        with tarfile.open(archive) as packed:
            packed.extractall(into, filter="data")
