"""Why a schema registry cannot be used."""


class RegistryAwayError(Exception):
    """The registry cannot be reached or does not work now; to ask again may help. The text says why."""


class RegistryRefusedError(Exception):
    """The registry does not take the schema, or is not as it must be. The text says what to do."""
