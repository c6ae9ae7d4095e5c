"""What can go wrong with keys; none of it is ever the fault of a record."""


class KeysError(Exception):
    """Keys cannot be had. The text is a sentence, and quotes no secret."""


class KeyStoreAwayError(KeysError):
    """The key store does not answer, or refuses: it may be there again at any moment."""


class WrongTenantKeysError(KeysError):
    """The tenant keys are not those of this key store."""


class KeysMissingError(KeysError):
    """The key store lacks keys that nobody destroyed: it was restored from an old backup, or is another."""


def lost(what: str, given_up: str) -> KeysMissingError:
    """Of keys that are not there. `given_up`: what else may be done with whatever they seal."""
    return KeysMissingError(
        f"The key store has no key of {what}, and nobody destroyed it: restore a newer backup of it, or give {given_up}"
        " up (docs/sealed-log.md)."
    )
