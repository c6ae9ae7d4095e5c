"""Reads secrets from files: as a vault's agent, Kubernetes, Docker and systemd hand them to a process.

A secret setting NAME comes from the environment, or from the file that NAME_FILE names, or from the file NAME (or name)
in the directory SECRETS_DIR, in this order. The end of a file's line does not belong to the secret.

A file may be replaced while the process runs: whoever asks for the secret again, as for each connection, gets the new
one.
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import get_args

from dotenv import dotenv_values
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

LARGEST = 65_536  # bytes


class SecretFileError(Exception):
    """Secrets cannot be read from their files. `problems`: a line for each, which names the file and quotes nothing."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class FileSecret(SecretStr):
    """A secret that is read again once its file was replaced. A file that cannot be used changes nothing."""

    def __init__(self, path: Path) -> None:
        """Reads the file. Raises OSError or ValueError."""
        self._path, self._read_at = path, _written_at(path)
        super().__init__(_read(path))

    def get_secret_value(self) -> str:
        """Returns what the file holds now, or what it held when it could be used last."""
        with suppress(OSError, ValueError):
            written_at = _written_at(self._path)
            if written_at != self._read_at:
                self._secret_value, self._read_at = _read(self._path), written_at
        return self._secret_value

    def is_anybodys_to_write(self) -> bool:
        """Whether everybody on this machine may replace what it holds."""
        return bool(self._path.stat().st_mode & stat.S_IWOTH)


def _written_at(path: Path) -> tuple[int, int]:
    """What changes with the file: a rename brings another inode, also with an older time."""
    found = path.stat()
    return found.st_mtime_ns, found.st_ino


def secret_names(kind: type[BaseSettings]) -> list[str]:
    """Returns the fields that are secret."""
    return [name for name, field in kind.model_fields.items() if is_secret(field)]


def is_secret(field: FieldInfo) -> bool:
    """Returns whether the setting's value must not be shown."""
    return field.annotation is SecretStr or SecretStr in get_args(field.annotation)


def secrets_from_files(kind: type[BaseSettings], env_file: str | None) -> dict[str, SecretStr]:
    """Returns the secrets of `kind` that are in files, by field.

    Args:
        kind: The settings class.
        env_file: A file of variables that the environment overrides; None: there is none.

    Raises:
        SecretFileError: A file cannot be read, is empty or too large, or a variable is set beside its file.
    """
    variables = {**(dotenv_values(env_file) if env_file else {}), **os.environ}
    found: dict[str, SecretStr] = {}
    problems: list[str] = []
    for name in secret_names(kind):
        for path in _files(name.upper(), variables, problems):
            try:
                found[name] = FileSecret(path)
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or str(error)
                problems.append(f"{name.upper()}: the file {path} cannot be used: {why}")
    if problems:
        raise SecretFileError(problems)
    return found


def _files(variable: str, variables: Mapping[str, str | None], problems: list[str]) -> Iterator[Path]:
    """Yields the file of a secret, if it has one."""
    named, directory = variables.get(f"{variable}_FILE"), variables.get("SECRETS_DIR")
    if variables.get(variable):
        if named:
            problems.append(f"{variable}: it is set, and {variable}_FILE as well; leave one of them out")
    elif named:
        yield Path(named)
    elif directory:
        yield from [path for path in (Path(directory, variable), Path(directory, variable.lower())) if path.exists()][
            :1
        ]


def _read(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST} bytes")
    try:
        text = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    if not text:
        raise ValueError("it is empty")
    return text
