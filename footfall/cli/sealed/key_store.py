"""The key store as operators' commands use it: from the environment, or of the `footfall up` that runs here."""

import os
from typing import TYPE_CHECKING

from footfall.cli.options import state_dir
from footfall.processes.sealing import load_keys

if TYPE_CHECKING:
    from projector.sealed.keys import Keys


def operator_keys() -> "Keys | None":
    """The key store, not connected yet; None: there is none. Exits 1 for unusable settings."""
    if not {"KEY_STORE_URL", "KEY_STORE_URL_FILE", "DATABASE_URL", "SECRETS_DIR"} & os.environ.keys():
        try:
            from footfall.local.sealed import keys_environment
        except ImportError:  # no embedded stack
            return load_keys()
        os.environ.update(keys_environment(state_dir()))
    return load_keys()
