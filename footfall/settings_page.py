"""Writes `docs/settings.md` from the settings classes: every setting, its default, its bounds and its readers."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from command_side.settings import CommandSettings
from console.settings import OwnSettings
from footfall.cli.rights.sql_prompt import SqlSettings
from footfall.processes.secrets.secret_files import is_secret
from identity.settings import IdentitySettings, KeySettings
from operations.settings import (
    ArchiveRewriteSettings,
    ArchiveSettings,
    AuditSettings,
    DlqSettings,
    GrantReporterSettings,
    MigrateSettings,
    PrivacySettings,
    RebuildSettings,
    RestoreSettings,
    RewriteSettings,
    TopicSettings,
)
from projector.settings import ProjectorSettings
from query_side.settings import QuerySettings
from sealing.settings import SealingSettings
from sinks.settings import SinkSettings
from telemetry.traces.settings import TraceSettings
from web.transport.settings import TlsSettings

FILE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"


class OfEveryProcess(IdentitySettings, TlsSettings, TraceSettings):
    """Who may ask, TLS on the process's own port, and where traces go."""


EVERY = "every process"
SEALED = "command side, projector, console, `privacy`, `dlq`, `replay`"
READERS: dict[str, type[BaseSettings]] = {
    EVERY: OfEveryProcess,
    "command side": CommandSettings,
    "projector": ProjectorSettings,
    "query side": QuerySettings,
    SEALED: SealingSettings,
    "console": OwnSettings,
    "AUTH=keys and `keys`": KeySettings,
    "`migrate`": MigrateSettings,
    "`topics create`": TopicSettings,
    "`dlq`": DlqSettings,
    "`privacy`": PrivacySettings,
    "`privacy rewrite`": RewriteSettings,
    "`rebuild`": RebuildSettings,
    "`archive`": ArchiveSettings,
    "`archive restore`": RestoreSettings,
    "`archive rewrite`": ArchiveRewriteSettings,
    "`sink`": SinkSettings,
    "`grant-reporter`": GrantReporterSettings,
    "`audit`": AuditSettings,
    "`sql`": SqlSettings,
}
PROCESSES = ("command side", "projector", "query side", "console")

HEAD = """\
# Settings

Each process and each command reads its settings once, when it starts, from environment variables. With
`ENVIRONMENT=development`, which is the default, it also reads the file `.env` in the working directory; a variable in
the environment wins over the file. The repository has `.env.example` to copy, with a comment for each variable.

A process whose settings are not usable prints one line for each wrong variable, all at once and without the values.
Then it exits with code 1. The process `front` (`footfall front`, `footfall up`) reads the settings of the command side
and of the query side; the console reads those of the query side and those of Kafka, too.

A secret `NAME` may come from a file instead: the one that `NAME_FILE` names, or the file `NAME` in the directory
`SECRETS_DIR`. Passwords in files are read again for each connection ([secrets](secrets.md)).

Names that end in `_MS` are milliseconds, names that end in `_BYTES` are bytes.

`.venv/bin/python -m footfall.documents --write` writes this page from the settings classes; `make check` compares them.
"""

ENVIRONMENT = (
    "| `ENVIRONMENT` | `development` | `development`, `test`, `production` | every process and command | Which kind of "
    "environment this is; only `development` reads `.env`. |"
)
TABLE = "| variable | default | allowed | read by | meaning |\n|---|---|---|---|---|"


def rendered() -> bytes:
    """Returns the page that the settings classes give now."""
    readers: dict[str, dict[str, FieldInfo]] = {}
    for reader, kind in READERS.items():
        for name, field in kind.model_fields.items():
            readers.setdefault(name, {})[reader] = field
    sections: dict[str, list[str]] = {}
    for name, fields in readers.items():
        sections.setdefault(_section(fields), []).append(_row(name.upper(), fields))
    sections["Several processes"].insert(0, ENVIRONMENT)
    titles = ("Several processes", *(f"Only the {process}" for process in PROCESSES), "Only commands")
    return "\n".join(
        [HEAD, *(f"## {title}\n\n{TABLE}\n" + "\n".join(sections[title]) + "\n" for title in titles)]
    ).encode()


def _section(readers: Iterable[str]) -> str:
    if EVERY in readers or SEALED in readers:
        return "Several processes"
    processes = [reader for reader in readers if reader in PROCESSES]
    if len(processes) > 1:
        return "Several processes"
    return f"Only the {processes[0]}" if processes else "Only commands"


def _row(variable: str, fields: dict[str, FieldInfo]) -> str:
    cells = (
        f"`{variable}`",
        ", ".join(_distinct(_default(field) for field in fields.values())),
        " or ".join(_distinct(_allowed(field) for field in fields.values())),
        ", ".join(fields),
        _meaning(fields) + (f" Or `{variable}_FILE`." if any(map(is_secret, fields.values())) else ""),
    )
    return f"| {' | '.join(cells)} |"


def _meaning(fields: dict[str, FieldInfo]) -> str:
    """Returns the description; if the readers' descriptions differ, each one after the names of its readers."""
    described: dict[str, list[str]] = {}
    for reader, field in fields.items():
        described.setdefault(field.description or "", []).append(reader)
    if len(described) == 1:
        return _code(*described)
    return " ".join(f"{', '.join(readers)}: {_code(text)}" for text, readers in described.items())


def _code(text: str) -> str:
    """Returns the text with the names of settings and roles marked as code."""
    return re.sub(r"\b([A-Z]+(?:_[A-Z]+)+|footfall_\w+)\b", r"`\1`", text)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    return "empty" if default in ("", None) else f"`{default}`"


def _allowed(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
    least, most = _bound(field, "ge"), _bound(field, "le")
    if least is None:
        return ""
    return f"{least:,} to {most:,}" if most is not None else f"at least {least:,}"


def _bound(field: FieldInfo, kind: Literal["ge", "le"]) -> int | None:
    return next((getattr(item, kind) for item in field.metadata if hasattr(item, kind)), None)


def _distinct(values: Iterable[str]) -> list[str]:
    return [value for value in dict.fromkeys(values) if value]
