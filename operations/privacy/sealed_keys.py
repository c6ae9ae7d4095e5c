"""Destroys keys of the sealed log on purpose: those of old months, and those that are lost anyway."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from operations.audit.deed import audited, by_url
from operations.settings import PrivacySettings
from projector.sealed.keys import Keys, connected_store
from sealing.errors import KeysError
from sealing.months import month_of
from sealing.store import KeyStore

NO_STORE = "There is no key store here: KEY_STORE_URL is not set."
STILL_SEALING = "Events are sealed by the key of this month, so it has to be kept: {} is too late a month to name."
TOO_EARLY = (
    "{} ended less than a day ago: its key may still seal events, of retries or where a clock is behind. Try again"
    " after {:%Y-%m-%d %H:%M} UTC."
)
SETTLED = timedelta(days=1)  # after a month nobody seals by its key, whatever clock is wrong

NOT_LOST = "The key store has these months, or they are given up already: {}."


async def forget_months(
    settings: PrivacySettings, keys: Keys | None, tenant_id: str, before: str, actor: str
) -> list[str]:
    """Destroys the tenant's keys of all months before one, so that nobody can read what the log has of them.

    Args:
        settings: Name the database, for the audit log.
        keys: Of the sealed log.
        tenant_id: Whose.
        before: The first month to keep, such as 2026-01 (UTC).
        actor: The operator.

    Returns:
        The months.

    Raises:
        KeysError: There is no key store, or it cannot be used.
        AuditUnavailableError: The audit log cannot be written, so nothing was done.
    """
    write = by_url(settings.database_url.get_secret_value())
    async with audited(
        write, "privacy forget-months", actor=actor, target=before, tenant_id=tenant_id, refusals=(KeysError,)
    ) as deed:
        async with connected_store(keys) as store:
            if store is None:
                raise KeysError(NO_STORE)
            refuse_unless_over(before, await _moment(store))
            found = await store.months.destroy(tenant_id, before)
        deed.target = f"{len(found)} months before {before}"
    return found


async def give_up(
    settings: PrivacySettings,
    keys: Keys | None,
    subject_ids: Sequence[UUID],
    tenant_id: str,
    months: Sequence[str],
    actor: str,
) -> None:
    """Declares subjects, or months of a tenant, destroyed whose keys are lost: partitions go on, with stubs.

    Other arguments and errors are those of `forget_months`. A month that has a key is refused, unless that was made
    anew: then what an older one sealed is given up.
    """
    write = by_url(settings.database_url.get_secret_value())
    target = ", ".join(filter(None, [f"{len(subject_ids)} subjects" if subject_ids else "", *months]))
    async with (
        audited(write, "privacy give-up", actor=actor, target=target, tenant_id=tenant_id, refusals=(KeysError,)),
        connected_store(keys) as store,
    ):
        if store is None:
            raise KeysError(NO_STORE)
        anew = await store.months.made_anew(tenant_id)
        done = sorted(month for month in set(months) & anew.keys() if anew[month].given_up)
        lost = sorted(set(months) - anew.keys())
        if lost and lost[-1] >= month_of(await _moment(store)):
            raise KeysError(STILL_SEALING.format(lost[-1]))
        known = done or await store.months.give_up(tenant_id, lost)
        if known:
            raise KeysError(NOT_LOST.format(", ".join(known)))
        await store.months.give_up_older(tenant_id, months)
        if subject_ids:  # last, so that a refusal left everything as it was
            await store.destroy(subject_ids)


async def _moment(store: KeyStore) -> datetime:
    """Now, by the clock that is behind: the one here, or the store's."""
    return min(datetime.now(UTC), await store.now())


def refuse_unless_over(before: str, moment: datetime) -> None:
    """Raises KeysError if events may still be sealed by keys of months before this one: they would be lost at once."""
    if before > month_of(moment):
        raise KeysError(STILL_SEALING.format(before))
    if before > month_of(moment - SETTLED):
        raise KeysError(TOO_EARLY.format(month_of(moment - SETTLED), _begin_of(before) + SETTLED))


def _begin_of(month: str) -> datetime:
    return datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC)
