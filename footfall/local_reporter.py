"""The reporter of `footfall up`: made at each start, found again by `footfall sql` without any settings."""

import hmac
import json
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from footfall.embedded import StackError
from footfall.embedded.places import StatePaths
from footfall.embedded.postgres_roles import OWNER, load_passwords, role_url
from footfall.reporters import Reporter, grant

NAME = "footfall_report"
CONNECTIONS = 20


async def grant_local(owner_url: str) -> Reporter:
    """Makes the local reporter in the embedded PostgreSQL, or brings it up to date."""
    return await grant(owner_url, NAME, _password(owner_url), connections=CONNECTIONS)


def local_reporter_url(owner_url: str) -> str:
    """The local reporter's URL of the same database; it carries the password."""
    host = urlsplit(owner_url).netloc.rpartition("@")[2]
    return urlunsplit(urlsplit(owner_url)._replace(netloc=f"{NAME}:{_password(owner_url)}@{host}"))


def running_owner_url(state_dir: Path) -> str:
    """The owner's URL of the stack that runs on this state. Raises StackError when none does."""
    paths = StatePaths(state_dir.expanduser().absolute())
    try:
        address = str(json.loads(paths.lock.read_text())["postgres"])
        passwords = load_passwords(paths.secrets, cluster_exists=True)
    except (OSError, ValueError, KeyError) as error:
        raise StackError(
            f"Nothing runs in {paths.root}. Start it with `footfall up`, or name its --state-dir."
        ) from error
    return role_url(int(address.rpartition(":")[2]), OWNER, passwords.owner)


def _password(owner_url: str) -> str:
    """Derived, so that it need not be kept: whoever can read the owner's password needs no other."""
    return hmac.digest((urlsplit(owner_url).password or "").encode(), NAME.encode(), "sha256").hex()
