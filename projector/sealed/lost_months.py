"""Records of months whose key was lost and made anew: their seal fits no key that is left, and none is to blame."""

from collections.abc import Sequence

from contracts.sealed.events import Cut, decoded_v3
from projector.writing.rows import KafkaRecord
from sealing.cipher import cipher_of, opened
from sealing.errors import KeysMissingError
from sealing.months import MadeAnew, MonthKeys, month_of
from sealing.store import Subject

LOST = (
    "The key of month {month} of tenant {tenant} was made anew at {at:%Y-%m-%d %H:%M:%S} UTC, and an older event fits"
    " only the one that was lost: restore a newer backup of the key store, or give such events up: footfall privacy"
    " give-up --tenant {tenant} --month {month} (docs/sealed-log.md)."
)


async def opened_by_others(months: MonthKeys, unfit: Sequence[tuple[Cut, Subject | None]]) -> list[bytes | None]:
    """What each record's seal hides, where it fits another key of the month that the store keeps; None: none fits."""
    of_tenants: dict[str, dict[str, list[bytes]]] = {}
    found: list[bytes | None] = []
    for one, subject in unfit:
        if subject is not None and subject.tenant_id not in of_tenants:
            of_tenants[subject.tenant_id] = await months.others(subject.tenant_id)
        keys = [] if subject is None else of_tenants[subject.tenant_id].get(one.month.decode("ascii", "replace"), [])
        tried = (opened(cipher_of(subject.key, key), one.sealed, one.clear) for key in keys if subject is not None)
        found.append(next((secret for secret in tried if secret is not None), None))
    return found


async def given_up(months: MonthKeys, broken: Sequence[KafkaRecord]) -> list[bool]:
    """Which of the records were sealed by a key that is lost and given up.

    Args:
        months: The key store's.
        broken: Records, in JSON, whose seal fits no key.

    Raises:
        KeysMissingError: The key of one of them is lost, and nobody gave it up.
        KeyStoreAwayError: The store does not answer.
    """
    of_tenants: dict[str, dict[str, MadeAnew]] = {}
    found: list[bool] = []
    for record in broken:
        event = decoded_v3(record.value or b"")
        if event is None:
            found.append(False)
            continue
        tenant, month = event.tenant_id, month_of(event.timestamp)
        if tenant not in of_tenants:
            of_tenants[tenant] = await months.made_anew(tenant)
        anew = of_tenants[tenant].get(month)
        is_older = anew is not None and event.timestamp < anew.at
        if anew is not None and is_older and not anew.given_up:
            raise KeysMissingError(LOST.format(month=month, tenant=tenant, at=anew.at))
        found.append(is_older)
    return found
