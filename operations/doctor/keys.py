"""What can be wrong with the key store."""

from operations.doctor.findings import Finding, well_unless
from projector.sealed.keys import Keys
from sealing.errors import KeysError

OLD = 3_600.0  # seconds


async def key_findings(keys: Keys) -> list[Finding]:
    """Whether the key store answers with our tenant keys, and no erasure is stuck in it."""
    store = keys.store
    try:
        await store.open()
        await store.check_rights()
        stuck = [each for each in await store.pending(OLD) if each.is_old]
    except KeysError as error:
        remedy = "Users that a process remembers are served; others get 503. Check KEY_STORE_URL and TENANT_KEYS."
        return [Finding("key store", "problem", str(error), remedy)]
    finally:
        await store.close()
    found = []
    if stuck:
        remedy = "Ask again for their erasure; see that a projector runs."
        says = f"{len(stuck)} erasures were asked for, and their markers are not applied."
        found = [Finding("key store", "warning", says, remedy)]
    return well_unless("key store", found, "It answers, and the tenant keys are its own.")
