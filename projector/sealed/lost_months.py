"""Records of months whose key was lost and made anew: their seal fits no key that is left, and none is to blame."""

from collections.abc import Sequence

from contracts.sealed.events import decoded_v3
from projector.writing.rows import KafkaRecord
from sealing.errors import KeysMissingError
from sealing.months import MadeAnew, MonthKeys, month_of

LOST = (
    "The key of month {month} of tenant {tenant} was made anew at {at:%Y-%m-%d %H:%M:%S} UTC, and an older event fits"
    " only the one that was lost: restore a newer backup of the key store, or give such events up: footfall privacy"
    " give-up --tenant {tenant} --month {month} (docs/sealed-log.md)."
)


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
