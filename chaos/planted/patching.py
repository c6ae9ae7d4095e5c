"""Puts a planted fault in the place of what it replaces."""

from typing import Any


def replace(owner: Any, name: str, value: Any) -> None:
    """Replaces an attribute that must exist; otherwise a patch without effect would look like a fault not caught."""
    getattr(owner, name)
    setattr(owner, name, value)
