"""Finds users whom a marker of the sealed log names no more, because its key is destroyed: by their pseudonyms.

A generation that was paused for long meets such markers. It has the user's rows from before the pause by name: of
events that are plain, and of sealed ones that it opened. The register has the pseudonym of whom the marker is of.
"""

from collections.abc import Collection, Mapping, Sequence

from projector.privacy.erased_users import User, users_of_record
from projector.privacy.marker import Marker
from read_model.connecting.pool import Connection
from read_model.pseudonyms import pseudonym

# HMAC-SHA256 (RFC 2104) of each user that the generation has in a partition: the key, filled up to a block of SHA-256,
# is $3 and $4 with the pads. As `pseudonym` has it, which the test compares.
BY_PSEUDONYM = r"""
SELECT DISTINCT user_id FROM {generation}.user_activity
WHERE tenant_id = $1 AND kafka_partition = $2 AND sha256($3 || sha256(
    $4 || convert_to(tenant_id, 'UTF8') || '\x00'::bytea || convert_to(user_id, 'UTF8'))) = $5
"""
# Of erasures, those that came before the generation: it has met the users' records as stubs, and nobody by name.
MET_AS_STUBS = """
SELECT DISTINCT erasure_id FROM ops.erasures
WHERE erasure_id = ANY ($1::uuid[]) AND applied_at < (SELECT created_at FROM ops.generations WHERE name = $2)
"""
LETTERS = """
SELECT record_key, record_value FROM {generation}.dead_letters
WHERE kafka_topic = $1 AND kafka_partition = $2 AND kafka_offset < $3
"""
BLOCK = 64  # bytes, of SHA-256
INNER, OUTER = 0x36, 0x5C
AT_ONCE = 1_000  # letters


async def users_unnamed(
    connection: Connection, generation: str, secret: bytes, markers: Sequence[Marker]
) -> Mapping[Marker, Collection[str]]:
    """Returns, for each marker that names its user by a pseudonym only, whom the generation has by that name.

    Args:
        connection: in a transaction.
        generation: the schema.
        secret: of the pseudonyms.
        markers: any.
    """
    unnamed = [m for m in markers if m.pseudonym is not None and pseudonym(secret, *m.user) != m.pseudonym]
    if not unnamed:
        return {}
    rows = await connection.fetch(MET_AS_STUBS, [marker.erasure.erasure_id for marker in unnamed], generation)
    stubs = {row["erasure_id"] for row in rows}
    return {m: await _names(connection, generation, secret, m) for m in unnamed if m.erasure.erasure_id not in stubs}


async def _names(connection: Connection, generation: str, secret: bytes, marker: Marker) -> set[str]:
    tenant_id = marker.user[0]
    rows = await connection.fetch(
        BY_PSEUDONYM.format(generation=generation),
        tenant_id,
        marker.partition,
        _padded(secret, OUTER),
        _padded(secret, INNER),
        marker.pseudonym,
    )
    letters: set[User] = set()
    place = marker.topic, marker.partition, marker.offset
    async for row in connection.cursor(LETTERS.format(generation=generation), *place, prefetch=AT_ONCE):
        letters.update(users_of_record(row["record_key"], row["record_value"]))
    of_letters = {user for tenant, user in letters if pseudonym(secret, tenant, user) == marker.pseudonym}
    return {row["user_id"] for row in rows} | of_letters


def _padded(secret: bytes, pad: int) -> bytes:
    return bytes(byte ^ pad for byte in secret.ljust(BLOCK, b"\0"))
