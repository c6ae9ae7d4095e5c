"""What operators do to keys: create, rotate, revoke. Each returns what holds afterwards, and a new text only once."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from uuid_utils import uuid7

from contracts.event import TenantId
from identity.keys.key_record import KeyDigest, KeyRecord
from identity.keys.key_text import ALLOWED_SCOPES, KeyKind, digest_of, new_key
from identity.keys.topic import RegisterTopic
from web.policies.origins import is_origin
from web.policies.principal import AccessScope

USUAL_SCOPES: dict[KeyKind, frozenset[AccessScope]] = {
    "public": ALLOWED_SCOPES["public"],
    "secret": frozenset({AccessScope.EVENTS_WRITE, AccessScope.EVENTS_READ, AccessScope.EXPORT}),
    "operator": ALLOWED_SCOPES["operator"],
}


class KeyRefusedError(Exception):
    """What was asked for is not possible; the text is a sentence."""


class Wanted(msgspec.Struct, frozen=True):
    """A key that is to be made."""

    kind: KeyKind
    tenant_id: str
    name: str
    actor: str
    scopes: Collection[AccessScope] = ()  # none: the usual ones of the kind
    origins: Sequence[str] = ()
    valid_for: timedelta | None = None


class NewText(msgspec.Struct, frozen=True):
    """A key that was made now. `key` is shown once and kept nowhere."""

    record: KeyRecord
    key: str


async def create(topic: RegisterTopic, wanted: Wanted) -> NewText:
    """Makes a key. Raises KeyRefusedError."""
    scopes = frozenset(wanted.scopes) or USUAL_SCOPES[wanted.kind]
    problem = problem_of(wanted, scopes)
    if problem:
        raise KeyRefusedError(problem)
    now, key = datetime.now(UTC), new_key(wanted.kind)
    record = KeyRecord(
        key_id=str(uuid7()),
        kind=wanted.kind,
        tenant_id=wanted.tenant_id,
        name=wanted.name,
        scopes=scopes,
        digests=(digest_at(key, now),),
        created_at=now,
        created_by=wanted.actor,
        origins=tuple(wanted.origins),
        expires_at=None if wanted.valid_for is None else now + wanted.valid_for,
    )
    await topic.read()
    return NewText(await topic.write(record), key)


def problem_of(wanted: Wanted, scopes: frozenset[AccessScope]) -> str:
    """Why this key cannot be made; empty if it can."""
    beyond = scopes - ALLOWED_SCOPES[wanted.kind]
    if not is_tenant(wanted.tenant_id):
        return f"{wanted.tenant_id} is no name of a tenant: 1 to 64 letters, digits, `.`, `_` or `-`."
    if beyond:
        return f"A {wanted.kind} key cannot have {', '.join(sorted(beyond))}."
    if wanted.kind != "public":
        return "Only a public key has origins." if wanted.origins else ""
    if not wanted.origins:
        return "A public key needs at least one origin: --origin https://shop.example"
    wrong = [origin for origin in wanted.origins if not is_origin(origin)]
    return f"{wrong[0]} is no origin: it is scheme://host, with :port if that is not the usual one." if wrong else ""


def is_tenant(text: str) -> bool:
    """Whether the text can name a tenant."""
    try:
        msgspec.convert(text, TenantId)
    except msgspec.ValidationError:
        return False
    return True


async def rotate(topic: RegisterTopic, key_id: str, overlap: timedelta) -> NewText:
    """Gives a key a new text; the present one ends after `overlap`. Raises KeyRefusedError."""
    record, now = await live(topic, key_id), datetime.now(UTC)
    valid = [text for text in record.digests if text.expires_at is None or text.expires_at > now]
    if len(valid) > 1:
        raise KeyRefusedError(f"Two texts of key {key_id} are valid until {valid[1].expires_at:%Y-%m-%d %H:%M} UTC.")
    key = new_key(record.kind)
    older = [msgspec.structs.replace(text, expires_at=now + overlap) for text in valid]
    written = await topic.write(msgspec.structs.replace(record, digests=(digest_at(key, now), *older)))
    if written.revoked_at is not None or written.digests[0].sha256 != digest_of(key.encode()).hex():
        raise KeyRefusedError(f"Key {key_id} was revoked or rotated by somebody else meanwhile; its new text is void.")
    return NewText(written, key)


async def revoke(topic: RegisterTopic, key_id: str) -> KeyRecord:
    """Ends a key for ever. Raises KeyRefusedError if there is none, or it was revoked before."""
    return await topic.write(msgspec.structs.replace(await live(topic, key_id), revoked_at=datetime.now(UTC)))


async def live(topic: RegisterTopic, key_id: str) -> KeyRecord:
    """The key, which is not revoked. Raises KeyRefusedError."""
    record = (await topic.read()).records.get(key_id)
    if record is None:
        raise KeyRefusedError(f"There is no key {key_id}; `footfall keys list` shows all.")
    if record.revoked_at is not None:
        raise KeyRefusedError(f"Key {key_id} was revoked at {record.revoked_at:%Y-%m-%d %H:%M} UTC.")
    return record


def digest_at(key: str, now: datetime) -> KeyDigest:
    """What is kept of a text that was made now."""
    return KeyDigest(digest_of(key.encode()).hex(), now)
