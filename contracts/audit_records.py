"""What the audit topic carries: anchors of the audit log's head, and notes of processes that have no database.

The log itself is the table `ops.audit` (docs/audit.md). Notes name no user: only what is written directly does.
"""

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7


class AuditAnchor(msgspec.Struct, frozen=True, tag="anchor", tag_field="kind", rename="camel"):
    """That row `number` of a log has this hash. `log`: the random bytes its first row follows; both in hex."""

    log: str
    number: int
    hash: str
    at: datetime


class AuditNote(msgspec.Struct, frozen=True, tag="note", tag_field="kind", rename="camel"):
    """An entry on its way into the log. `entry_id`: a UUIDv7, by which it is written once."""

    entry_id: UUID
    actor: str
    action: str
    outcome: Literal["begun", "done", "refused", "failed"]
    tenant_id: str = ""
    target: str = ""
    request_id: str = ""


AuditRecord = AuditAnchor | AuditNote

encode_audit_record = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(AuditRecord).decode


def decode_audit_record(value: bytes | None) -> AuditRecord | None:
    """Reads a record of the audit topic; None for bytes that are none."""
    try:
        found: AuditRecord = _decode(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return found


def new_entry_id() -> UUID:
    """Makes the id of a note."""
    return uuid7()
