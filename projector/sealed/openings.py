"""What a projector remembers of the subjects of the sealed log, and of who was erased."""

from collections.abc import Iterable
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from contracts.sealed.events import naming, stub_name
from sealing.store import Subject


class Opening:
    """What is known of one subject. `gone`: by partition, the offset from which on its records are stubs."""

    __slots__ = ("ciphers", "gone", "named", "pseudonym", "subject", "tenant_id")

    def __init__(self, subject: Subject | None, erased_in: Iterable[int], pseudonym: bytes | None) -> None:
        """`subject`: None: its key is destroyed. `pseudonym`: of a user who is erased; names the stubs."""
        self.subject = subject
        self.tenant_id = b"" if subject is None else subject.tenant_id.encode()
        self.named = b"" if subject is None else naming(subject.tenant_id, subject.subject_id)
        self.ciphers: dict[bytes, AESGCM | None] = {}  # by month; None: the month's key is destroyed
        self.gone = dict.fromkeys(erased_in, -1)
        self.pseudonym = pseudonym

    @property
    def stub_name(self) -> str | None:
        """The user id of the stubs; None: that of the subject."""
        return None if self.pseudonym is None else stub_name(self.pseudonym.hex())


class Erased(NamedTuple):
    """Whom a marker names, and the user's pseudonym; None: unknown."""

    user_id: str | None
    pseudonym: bytes | None


NOBODY_KNOWN = Erased(None, None)


Openings = dict[bytes, Opening]  # by subject; what is no subject id is not in it
