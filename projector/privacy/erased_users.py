"""Users whose marker lies ahead: a rebuild meets their records as stubs, so that no new row ever held them.

A stub is the same event of a user without a name, whose payload has nothing but the product. It counts as the event
did, is parked as it was, and goes at the marker. So a rebuild ends with the rows that the generation before has, and
PostgreSQL's new files hold nothing of the user.
"""

from collections.abc import Mapping, Sequence

import msgspec

from contracts.event import DEFAULT_TENANT
from contracts.record import TENANT_SEPARATOR, key_of
from contracts.types import AS_NAMED, Catalogue
from contracts.versions import encode_event
from contracts.wire.frames import unframed
from projector.writing.rows import EventRow, KafkaRecord
from read_model.connecting.pool import Connection
from read_model.pseudonyms import pseudonym, pseudonym_key

# Erasures that the log has ahead of a generation or a sink. One that came after that began is no reason to stub: then
# some of the user's records may be rows already, and the user would count twice.
AHEAD = """
SELECT erased.partition, erased.pseudonym, max(erased.kafka_offset) AS until
FROM ops.erasures AS erased
JOIN {generation}.checkpoints AS here ON here.topic = erased.topic AND here.partition = erased.partition
WHERE erased.topic = $1 AND erased.partition = ANY ($2::int[]) AND erased.kafka_offset >= here.next_offset
  AND erased.topic_id = coalesce(here.topic_id, '00000000-0000-0000-0000-000000000000')
  AND erased.applied_at < (
      SELECT created_at FROM ops.generations WHERE name = '{generation}'
      UNION ALL SELECT created_at FROM ops.sinks WHERE name = '{generation}'
  )
GROUP BY erased.partition, erased.pseudonym
"""
# All of one partition, for letters that are redriven.
OF_PARTITION = """
SELECT partition, pseudonym, max(kafka_offset) AS until FROM ops.erasures
WHERE topic = $1 AND partition = $2 GROUP BY partition, pseudonym
"""

User = tuple[str, str]  # tenant and user id
_encode = msgspec.json.Encoder().encode


class MaskedRecord(msgspec.Struct):
    """A record (a KafkaRecord) of an erased user that is no event: where it stands, and nothing that it said."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


class ErasedUsers(msgspec.Struct):
    """The users of one partition whose marker lies ahead, and by their pseudonyms the offset of the marker."""

    secret: bytes  # of the pseudonyms
    until: Mapping[bytes, int]
    products: frozenset[str]  # payload fields that name a product

    @property
    def last(self) -> int:
        """The offset of the last marker: from there on, nobody is looked for."""
        return max(self.until.values(), default=-1)

    def is_erased(self, user: User, offset: int) -> bool:
        """Whether the user's marker lies behind this offset."""
        return offset < self.until.get(pseudonym(self.secret, *user), -1)

    def stubs(self, rows: Sequence[EventRow]) -> list[EventRow]:
        """The rows, with a stub in the place of each that is erased."""
        return [self.stub(row) for row in rows]

    def stub(self, row: EventRow) -> EventRow:
        """The row, or its stub."""
        event = row.event
        user = (event.tenant_id, event.user_id)
        if not self.is_erased(user, row.offset):
            return row
        payload = {name: event.payload[name] for name in self.products & event.payload.keys()}
        stub = msgspec.structs.replace(event, user_id=stub_id(self.secret, user), payload=payload)
        return msgspec.structs.replace(row, event=stub, event_json=encode_event(stub), payload=_encode(payload))

    def masked(self, record: KafkaRecord) -> KafkaRecord:
        """The record, or what is parked instead of it: its key, or else its value, names an erased user."""
        named = users_of_record(record.key, record.value)
        user = next((each for each in named if self.is_erased(each, record.offset)), None)
        if user is None:
            return record
        tenant_id, name = user[0], stub_id(self.secret, user)
        key = self.key(record)
        value = _encode({"tenantId": tenant_id, "userId": name})  # by which the marker finds it
        return MaskedRecord(record.topic, record.partition, record.offset, record.timestamp, key, value)

    def key(self, record: KafkaRecord) -> bytes | None:
        """The key by which the record waits behind others."""
        user = user_of_key(record.key)
        if user is None or not self.is_erased(user, record.offset):
            return record.key
        return key_of(user[0], stub_id(self.secret, user))


def stub_id(secret: bytes, user: User) -> str:
    """What a stub says instead of the user id."""
    return f"erased-{pseudonym(secret, *user).hex()}"


def users_of_record(key: bytes | None, value: bytes | None) -> list[User]:
    """Whose a record is that may be no event.

    The key decides, and alone says of which tenant; a value of another user of the tenant makes it theirs, too. Without
    a key that is text, the value decides. What is no JSON says nothing.
    """
    by_key, by_value = user_of_key(key), user_of_value(value)
    if by_key is not None and by_value is not None and by_value[0] != by_key[0]:
        return [by_key]
    return [user for user in (by_key, by_value) if user is not None]


def user_of_key(key: bytes | None) -> User | None:
    """The user that a key names."""
    try:
        tenant, separator, user = (key or b"").partition(TENANT_SEPARATOR)
        return (tenant.decode(), user.decode()) if separator else (DEFAULT_TENANT, tenant.decode()) if tenant else None
    except UnicodeDecodeError:
        return None


def user_of_value(value: bytes | None) -> User | None:
    """The user that a value names, although it may be no event."""
    try:
        fields = msgspec.json.decode(unframed(value or b""))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    user = fields.get("userId") if isinstance(fields, dict) else None
    return (str(fields.get("tenantId", DEFAULT_TENANT)), user) if isinstance(user, str) else None


def product_fields(catalogue: Catalogue) -> frozenset[str]:
    """Payload fields that name a product, by the catalogue or by what a shipped type's name says."""
    named = {field for _, field in AS_NAMED.values()} | {each.product for each in catalogue.types}
    return frozenset(field for field in named if field)


async def erased_ahead(
    connection: Connection, generation: str, topic: str, partitions: Sequence[int], products: frozenset[str]
) -> dict[int, ErasedUsers]:
    """Returns the erased users whose markers a generation has ahead, by partition; usually nobody."""
    found: dict[int, dict[bytes, int]] = {}
    for row in await connection.fetch(AHEAD.format(generation=generation), topic, list(partitions)):
        found.setdefault(row["partition"], {})[row["pseudonym"]] = row["until"]
    secret = await pseudonym_key(connection) if found else b""
    return {partition: ErasedUsers(secret, until, products) for partition, until in found.items()}


async def erased_in(connection: Connection, topic: str, partition: int) -> ErasedUsers:
    """Returns every user that was erased in a partition."""
    rows = await connection.fetch(OF_PARTITION, topic, partition)
    secret = await pseudonym_key(connection) if rows else b""
    return ErasedUsers(secret, {row["pseudonym"]: row["until"] for row in rows}, frozenset())
