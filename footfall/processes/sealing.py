"""Makes what seals and opens events, from the settings of the process; exits when it may not start so."""

from typing import TYPE_CHECKING

from contracts.types import Catalogue
from footfall.processes.environment import exit_with, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from command_side.app import Sealing
    from projector.sealed.keys import Keys
    from sealing.settings import SealingSettings
    from sealing.store import KeyStore

NO_STORE = "KEY_STORE_URL: is not set, and PRIVACY=sealed needs a key store"


def load_sealing(catalogue: Catalogue, startup_timeout_ms: int) -> "Sealing | None":
    """What seals new events; None with PRIVACY=plain. Exits 1 with a sentence for what is missing."""
    from sealing.settings import SealingSettings  # noqa: PLC0415 - a plain command side has no driver of PostgreSQL

    settings = load_settings(SealingSettings)
    if settings.privacy == "plain":
        return None
    from command_side.app import Sealing  # noqa: PLC0415
    from sealing.fences import StoreFences  # noqa: PLC0415
    from sealing.sealer import Sealer, product_reader  # noqa: PLC0415

    store = key_store(settings, "footfall-sealing")
    if store is None:
        exit_with([NO_STORE])
    products = {name: product_reader(field) for name, field in catalogue.product_fields.items()}
    sealer = Sealer(store, products, settings.key_cache_subjects, startup_timeout_ms / 1000)
    return Sealing(sealer, StoreFences(store))


def load_keys() -> "Keys | None":
    """What opens sealed events for a projector; None: there is no key store. Exits 1 for unusable keys."""
    return making_keys("footfall-projector-keys")()


def making_keys(application: str) -> "Callable[[], Keys | None]":
    """As `load_keys`, as often as it is called: for work that connects to the key store for itself."""
    from sealing.settings import SealingSettings  # noqa: PLC0415

    settings = load_settings(SealingSettings)
    if key_store(settings, application) is None:
        return lambda: None
    from projector.sealed.keys import Keys  # noqa: PLC0415

    def make() -> Keys | None:
        store = key_store(settings, application)
        return None if store is None else Keys(store, settings.key_cache_subjects)

    return make


def key_store(settings: "SealingSettings", application: str) -> "KeyStore | None":
    """The key store that the settings name, not connected yet; None: they name none. Exits 1 for unusable keys."""
    from sealing.store import KeyStore  # noqa: PLC0415

    if not settings.has_store():
        return None
    try:
        return KeyStore(settings.key_store_url, settings.keys(), application)
    except ValueError as error:
        exit_with([str(error)])
