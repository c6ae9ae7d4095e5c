"""Finds the servers of the `footfall up` that runs here, and makes its reporter role at each start."""

import fcntl
import hmac
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from footfall.local.embedded import StackError
from footfall.local.embedded.paths import StatePaths
from footfall.local.embedded.postgres.roles import OWNER, PROJECTOR, Passwords, load_passwords, role_url
from footfall.local.embedded.state_lock import read_facts
from operations.reporters import Reporter, grant

NAME = "footfall_report"
CONNECTIONS = 20


@dataclass(frozen=True)
class RunningStack:
    """The addresses and passwords of a running `footfall up`."""

    kafka: str  # host:port
    postgres_port: int
    passwords: Passwords = field(repr=False)

    def url(self, login: str) -> str:
        """Returns the PostgreSQL URL of `owner`, `projector` or `reporter`, including the password."""
        owner = role_url(self.postgres_port, OWNER, self.passwords.owner)
        if login == "projector":
            return role_url(self.postgres_port, PROJECTOR, self.passwords.projector)
        return local_reporter_url(owner) if login == "reporter" else owner


async def grant_local(owner_url: str) -> Reporter:
    """Makes the reporter of the embedded PostgreSQL, or brings it up to date."""
    return await grant(owner_url, NAME, _password(owner_url), connections=CONNECTIONS)


def local_reporter_url(owner_url: str) -> str:
    """Returns the reporter's URL of the same database, including the password."""
    host = urlsplit(owner_url).netloc.rpartition("@")[2]
    return urlunsplit(urlsplit(owner_url)._replace(netloc=f"{NAME}:{_password(owner_url)}@{host}"))


def running_stack(state_dir: Path) -> RunningStack:
    """Returns the stack that runs on this state directory. Raises StackError if none does."""
    paths = StatePaths(state_dir.expanduser().absolute())
    try:
        with paths.lock.open("r+", encoding="utf-8") as file:
            facts = read_facts(file) if _is_held(file.fileno()) else {}
        kafka, postgres = str(facts["kafka"]), str(facts["postgres"])
        passwords = load_passwords(paths.secrets, cluster_exists=True)
    except (OSError, KeyError) as error:
        raise StackError(
            f"nothing runs in {paths.root}. Start it with `footfall up`, name its --state-dir, or set the variable."
        ) from error
    return RunningStack(kafka, int(postgres.rpartition(":")[2]), passwords)


def _is_held(lock: int) -> bool:
    """Whether a running stack holds the lock. The lock's file stays after the stack has ended."""
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _password(owner_url: str) -> str:
    """Derives the reporter's password from the owner's, so that no further password must be stored."""
    return hmac.digest((urlsplit(owner_url).password or "").encode(), NAME.encode(), "sha256").hex()
