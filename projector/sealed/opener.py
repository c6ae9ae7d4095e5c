"""Opens the records of the sealed log: keys of subjects are remembered, and those of a batch are learned at once.

A record becomes a stub (`stub_value`) when its key is destroyed, and when its user is erased: after
the marker always, and before it if the marker was applied in this partition before the subject was learned. So a
rebuild meets all records of an erased user as stubs. They are called by the user's pseudonym, as stubs of events from
before the log was sealed are (`projector/privacy/erased_users.py`): in statistics both are one user.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress, islice
from typing import Any, TypeVar
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from contracts.erasure import START_SEALED, SealedErasure, sealed_erasure_of
from contracts.sealed.events import (
    START_V3,
    SUBJECT_ID_LENGTH,
    Cut,
    cut_of,
    decoded_v3,
    event_value,
    is_sealed,
    stub_value,
)
from contracts.wire.frames import unframed
from projector.sealed.lost_months import given_up, opened_by_others
from projector.sealed.markers import named_users, sealed_markers
from projector.sealed.openings import NOBODY_KNOWN, Erased, Opening, Openings
from projector.sealed.records import (
    BROKEN,
    MALFORMED,
    OpenedErasure,
    OpenedRecord,
    as_in_the_log,
    cuts_of,
    is_broken,
    opened_record,
    without_frames,
)
from projector.sealed.register import erased_subjects, pseudonyms_of
from projector.writing.rows import SEALED, KafkaRecord
from read_model.connecting.pool import Connection
from read_model.pseudonyms import pseudonym, pseudonym_key
from sealing.cipher import cipher_of, opened
from sealing.errors import lost
from sealing.remembered import Remembered
from sealing.store import Destroyed, KeyStore, Subject

EXAMPLES = 3  # subjects that an error names
MARKERS = 10_000  # markers whose user is remembered

PartKey = TypeVar("PartKey")
is_subject = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


class Opener:
    """Opens records for one generation. Several lanes use it at the same time."""

    def __init__(self, store: KeyStore, products: Mapping[str, str], limit: int) -> None:
        """`products`: the payload field that names the product, by type. `limit`: subjects to remember."""
        self._store = store
        self._products = products
        self._known: Remembered[bytes, Opening] = Remembered(limit)
        self._months: dict[str, dict[bytes, bytes | None]] = {}
        self._erased: Remembered[UUID, Erased] = Remembered(MARKERS)  # by erasure
        self._secret: bytes | None = None  # of the pseudonyms

    async def opened_part(
        self, part: Mapping[PartKey, Sequence[KafkaRecord]], pool: Any
    ) -> Mapping[PartKey, Sequence[KafkaRecord]]:
        """The part with every sealed record opened. `pool`: of the read model. Raises KeysError, asyncpg's errors."""
        records = [as_in_the_log(record) for found in part.values() for record in found]
        quickly = list(map(self._opened_quickly, records))
        done = [one for one in quickly if one is not None]
        if not done and not any(unframed(record.value or b"").startswith(SEALED) for record in records):
            return part
        if len(done) < len(records):
            done = await self._others_opened(records, quickly, pool)
        in_order = iter(done)
        return {position: list(islice(in_order, len(found))) for position, found in part.items()}

    def _opened_quickly(self, record: KafkaRecord) -> KafkaRecord | None:
        """The record of a sealed event, opened by what is remembered; None: it is none, or something is to be learned.

        This is what nearly every record costs.
        """
        value, key = record.value, record.key
        if value is None or key is None or not value.startswith(START_V3):
            return None
        subject_id = key[-SUBJECT_ID_LENGTH:]
        opening = self._known.get(subject_id)
        if opening is None or opening.gone:
            return None
        found = cut_of(value, opening.tenant_id, subject_id, opening.named)
        cipher = None if found is None else opening.ciphers.get(found.month)
        if found is None or cipher is None:
            return None
        secret = opened(cipher, found.sealed, found.clear)
        return None if secret is None else opened_record(record, event_value(found, secret))

    async def _others_opened(
        self, records: Sequence[KafkaRecord], quickly: Sequence[KafkaRecord | None], pool: Any
    ) -> list[KafkaRecord]:
        """All records opened: all of them anew if there are markers, which change what the records after them are."""
        others = without_frames([record for record, one in zip(records, quickly, strict=True) if one is None])
        markers = sealed_markers(others)
        if markers:
            others, quickly = without_frames(records), [None] * len(records)
        cuts = cuts_of(others)
        openings, unknown = self._remembered(cuts)
        if unknown or markers:
            async with pool.acquire() as connection:
                await self._learn(openings, unknown, records[0].topic, connection)
                await self._learn_markers(markers, connection)
        done = iter(await self._all_opened(others, cuts, openings))
        return [next(done) if one is None else one for one in quickly]

    async def opened_records(
        self, records: Sequence[KafkaRecord], connection: Connection | None = None
    ) -> list[KafkaRecord]:
        """As `opened_part`, of one topic. `connection`: to the read model; None: there is no register to ask."""
        records = without_frames(records)
        cuts = cuts_of(records)
        openings, unknown = self._remembered(cuts)
        await self._learn(openings, unknown, records[0].topic if records else "", connection)
        return await self._all_opened(records, cuts, openings)

    def _remembered(self, cuts: Sequence[Cut | None]) -> tuple[Openings, list[str]]:
        """What is known of the subjects, and those of which nothing is."""
        openings: Openings = {}
        unknown: dict[str, None] = {}
        for name in {found.subject_id for found in cuts if found is not None}:
            known = self._known.get(name)
            if known is not None:
                openings[name] = known
            elif is_subject(name):
                unknown[name.decode()] = None
        return openings, list(unknown)

    async def _learn(
        self, openings: Openings, unknown: Sequence[str], topic: str, connection: Connection | None
    ) -> None:
        """Learns subjects, in one statement for all. Raises KeysMissingError."""
        if not unknown:
            return
        keys = await self._store.keys_of(unknown)
        erased = {} if connection is None else await erased_subjects(connection, topic, unknown)
        missing = [each for each in unknown if each not in keys and not (each in erased and erased[each].destroyed)]
        if missing:
            raise lost(f"{len(missing)} subjects ({', '.join(missing[:EXAMPLES])})", "them")
        for name in unknown:
            key, of_register = keys.get(name), erased.get(name)
            is_gone = key is None or isinstance(key, Destroyed) or (of_register is not None and of_register.destroyed)
            subject = key if isinstance(key, Subject) and not is_gone else None
            opening = Opening(
                subject,
                () if of_register is None else of_register.partitions,
                None if of_register is None else of_register.pseudonym,
            )
            openings[name.encode()] = opening
            self._known.put(name.encode(), opening)

    async def _prepare(self, openings: Openings, cuts: Sequence[Cut | None]) -> None:
        """Makes the ciphers of months that are new for their subject."""
        for found in cuts:
            opening = None if found is None else openings.get(found.subject_id)
            if found is not None and opening is not None and found.month not in opening.ciphers and opening.subject:
                opening.ciphers[found.month] = await self._cipher(opening.subject, found.month)

    async def _cipher(self, subject: Subject, month: bytes) -> AESGCM | None:
        of_tenant = self._months.get(subject.tenant_id, {})
        if month not in of_tenant:
            found = await self._store.months.of(subject.tenant_id)
            of_tenant = self._months[subject.tenant_id] = {name.encode(): key for name, key in found.items()}
        if month not in of_tenant:
            raise lost(f"month {month.decode(errors='replace')} of tenant {subject.tenant_id}", "the month")
        key = of_tenant[month]
        return None if key is None else cipher_of(subject.key, key)

    async def _learn_markers(self, found: Sequence[tuple[SealedErasure, bytes]], connection: Connection) -> None:
        """Learns whom markers are of: by keys; by the register where those are destroyed."""
        new = {erasure.erasure_id: (erasure, clear) for erasure, clear in found}
        if not new:
            return
        registered = dict(await pseudonyms_of(connection, list(new)))
        users = await named_users(self._store, list(new.values()), registered)
        self._secret = self._secret or await pseudonym_key(connection)
        for erasure_id, (erasure, _) in new.items():
            user_id = users.get(erasure_id)
            if user_id is not None:
                self._erased.put(erasure_id, Erased(user_id, pseudonym(self._secret, erasure.tenant_id, user_id)))
            elif self._erased.get(erasure_id) is None:
                self._erased.put(erasure_id, Erased(None, registered.get(erasure_id)))

    async def _all_opened(
        self, records: Sequence[KafkaRecord], cuts: Sequence[Cut | None], openings: Openings
    ) -> list[KafkaRecord]:
        """A seal that does not fit is looked at once more, with the keys that the store has now."""
        await self._prepare(openings, cuts)
        found = self._by_what_is_known(records, cuts, openings)
        broken = {one.subject_id for one, record in zip(cuts, found, strict=True) if one and is_broken(record)}
        if not broken:
            return found
        await self._learn_again(openings, broken)
        found = self._by_what_is_known(records, cuts, openings)
        unfit = [(at, one, openings[one.subject_id]) for at, one in enumerate(cuts) if one and is_broken(found[at])]
        secrets = await opened_by_others(self._store.months, [(one, opening.subject) for _, one, opening in unfit])
        for (at, one, _), secret in zip(unfit, secrets, strict=True):
            found[at] = found[at] if secret is None else opened_record(records[at], event_value(one, secret))
        unfit = [each for each, secret in zip(unfit, secrets, strict=True) if secret is None]
        lost = await given_up(self._store.months, [records[at] for at, *_ in unfit])
        for at, _, opening in compress(unfit, lost):
            found[at] = self._stub(records[at], opening.stub_name)
        return found

    async def _learn_again(self, openings: Openings, names: Iterable[bytes]) -> None:
        """Replaces remembered keys: a store that was restored may have others. Other lanes find the old or the new."""
        keys = await self._store.keys_of(name.decode() for name in names)
        for tenant_id in {key.tenant_id for key in keys.values() if isinstance(key, Subject)}:
            self._months.pop(tenant_id, None)
        for name, key in keys.items():
            opening = openings[name.encode()]
            if isinstance(key, Subject):
                for month in list(opening.ciphers):
                    opening.ciphers[month] = await self._cipher(key, month)
                opening.subject = key

    def _by_what_is_known(
        self, records: Sequence[KafkaRecord], cuts: Sequence[Cut | None], openings: Openings
    ) -> list[KafkaRecord]:
        return [
            self._of_sealed_log(record, openings) if found is None else self._opened(record, found, openings)
            for record, found in zip(records, cuts, strict=True)
        ]

    def _of_sealed_log(self, record: KafkaRecord, openings: Openings) -> KafkaRecord:
        """A record that is not a sealed event: a marker, or plain, or malformed."""
        if is_sealed(record.value):
            return opened_record(record, b"", MALFORMED)
        if record.value is None or not record.value.startswith(START_SEALED):
            return record
        return self._marker(record, openings)

    def _opened(self, record: KafkaRecord, found: Cut, openings: Openings) -> KafkaRecord:
        opening = openings.get(found.subject_id)
        if opening is None:
            return opened_record(record, b"", MALFORMED)
        gone = opening.gone.get(record.partition) if opening.gone else None
        cipher = opening.ciphers.get(found.month)
        if cipher is None or (gone is not None and record.offset > gone):
            return self._stub(record, opening.stub_name)
        secret = opened(cipher, found.sealed, found.clear)
        if secret is None:
            return opened_record(record, b"", BROKEN)
        return opened_record(record, event_value(found, secret))

    def _stub(self, record: KafkaRecord, name: str | None) -> KafkaRecord:
        event = decoded_v3(record.value or b"")
        if event is None:
            return opened_record(record, b"", MALFORMED)
        return opened_record(record, stub_value(event, self._products.get(event.event_type), name))

    def _marker(self, record: KafkaRecord, openings: Openings) -> OpenedRecord:
        found = sealed_erasure_of(record.value)
        if found is None:
            return opened_record(record, b"", MALFORMED)
        erasure, _ = found
        erased = self._erased.get(erasure.erasure_id) or NOBODY_KNOWN
        for subject_id in erasure.subject_ids:
            name = str(subject_id).encode()
            opening = openings.get(name) or self._known.get(name)
            if opening is not None:
                opening.gone[record.partition] = min(record.offset, opening.gone.get(record.partition, record.offset))
                opening.pseudonym = opening.pseudonym or erased.pseudonym
        return opened_record(record, b"", erasure=OpenedErasure(erasure, *erased))


class Unsealed:
    """See `Opener`, where there is no key store."""

    async def opened_part(
        self, part: Mapping[PartKey, Sequence[KafkaRecord]], _pool: Any
    ) -> Mapping[PartKey, Sequence[KafkaRecord]]:
        """The part as it is."""
        return part

    async def opened_records(
        self, records: Sequence[KafkaRecord], _connection: Connection | None = None
    ) -> list[KafkaRecord]:
        """The records as they are."""
        return list(records)


UNSEALED = Unsealed()
