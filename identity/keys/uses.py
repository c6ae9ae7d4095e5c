"""When each key was used last, in this process."""


class KeyUses:
    """Notes the uses of keys; a use costs one assignment."""

    def __init__(self) -> None:
        self.last: dict[str, float] = {}  # by key id: Unix time, seconds
