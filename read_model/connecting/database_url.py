"""Parses PostgreSQL URLs for every command and process. Its errors never quote a part of a URL.

It accepts libpq's form (https://www.postgresql.org/docs/current/libpq-connect.html, 34.1.1.2), so psql accepts the same
URLs. A parameter either works or is refused by name. A name that libpq does not know is not quoted in the error, for it
may be part of a password.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import quote, unquote

from pydantic import AfterValidator, SecretStr

SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")
FORM = (
    "Write postgresql://user:password@host:5432/database, "
    "with / ? # @ : % of user or password as %2F %3F %23 %40 %3A %25"
)

HOST = re.compile(r"(\[[0-9A-Fa-f:.]+(%25[\w.-]+)?\]|[\w.~-]*|(%2[Ff][\w.~-]*)+)(:[0-9]{1,5})?")
PORT = re.compile(r":[0-9]+$")
ON_THIS_MACHINE = ("", "localhost", "127.0.0.1", "::1")  # empty: the socket of this machine
SAID = ("disable", "require", "verify-ca", "verify-full")
BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")

ANY = ""  # the parameter may have any value
ALLOWED: Mapping[str, str] = {  # the allowed values of each accepted parameter
    "host": ANY,
    "port": ANY,
    "dbname": ANY,
    "user": ANY,
    "password": ANY,
    "passfile": ANY,
    "connect_timeout": ANY,
    "options": ANY,
    "sslmode": "disable allow prefer require verify-ca verify-full",
    "sslnegotiation": "postgres direct",
    "sslcert": ANY,
    "sslkey": ANY,
    "sslpassword": ANY,
    "sslrootcert": ANY,
    "sslcrl": ANY,
    "ssl_min_protocol_version": "TLSv1.2 TLSv1.3",
    "ssl_max_protocol_version": "TLSv1.2 TLSv1.3",
    "target_session_attrs": "any read-write read-only primary standby prefer-standby",
    "krbsrvname": ANY,
    # asyncpg always behaves like these values and ignores others, so others are refused.
    "channel_binding": "disable prefer",
    "gssencmode": "disable prefer",
    "client_encoding": "auto UTF8 utf8 UTF-8",
    "sslcompression": "0",
    "load_balance_hosts": "disable",
}
# Parameters that asyncpg does not accept; we handle them or drop them.
NOT_FOR_DRIVER = frozenset(
    {
        "connect_timeout",
        "channel_binding",
        "gssencmode",
        "client_encoding",
        "sslcompression",
        "load_balance_hosts",
    }
)
REFUSED = frozenset(
    {
        "application_name",
        "fallback_application_name",
        "gssdelegation",
        "gsslib",
        "hostaddr",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "max_protocol_version",
        "min_protocol_version",
        "oauth_client_id",
        "oauth_client_secret",
        "oauth_issuer",
        "oauth_scope",
        "replication",
        "require_auth",
        "requirepeer",
        "requiressl",
        "scram_client_key",
        "scram_server_key",
        "service",
        "servicefile",
        "sslcertmode",
        "sslcrldir",
        "sslkeylogfile",
        "sslsni",
        "tcp_user_timeout",
    }
)


Url = str | SecretStr  # a secret is read for each connection: its file may have changed


class DatabaseUrlError(ValueError):
    """The text is not a usable URL. The message says why and quotes nothing of the text."""


class ChangedUrlError(ConnectionError):
    """A URL that was usable when the process started no longer is; it may be again in a moment."""


@dataclass(frozen=True)
class DatabaseUrl:
    """The parts of a URL, unescaped except `hosts`. An empty `database` means the driver's default."""

    user: str = field(repr=False)
    password: str | None = field(repr=False)
    hosts: str = field(repr=False)
    database: str = field(repr=False)
    parameters: Mapping[str, str] = field(repr=False)

    @property
    def connect_timeout(self) -> int | None:
        """The connect timeout in seconds; None if the URL names none."""
        return int(self.parameters.get("connect_timeout", "0")) or None

    def driver(self) -> str:
        """Returns the URL for asyncpg: every part escaped, and only parameters that asyncpg accepts."""
        return self._url(self.password, {k: v for k, v in self.parameters.items() if k not in NOT_FOR_DRIVER})

    def libpq(self) -> tuple[str, str | None]:
        """Returns the URL for psql without the password, which a command line would show, and the password."""
        kept = {k: v for k, v in self.parameters.items() if k != "password"}
        return self._url(None, kept), self.parameters.get("password", self.password)

    def _url(self, password: str | None, parameters: Mapping[str, str]) -> str:
        secret = "" if password is None else f":{quote(password, safe='')}"
        at = "@" if self.user or secret else ""
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
        where = f"{quote(self.user, safe='')}{secret}{at}{self.hosts}/{quote(self.database, safe='')}"
        return f"postgresql://{where}{'?' if query else ''}{query}"


def parse(text: str) -> DatabaseUrl:
    """Parses a URL. Raises DatabaseUrlError."""
    scheme, found, rest = text.strip().partition("://")
    if not found or scheme not in SCHEMES:
        raise _not_a_url("it does not begin with postgresql://")
    if BROKEN_ESCAPE.search(rest):
        raise _not_a_url("it has a % without two hexadecimal digits after it")
    if "#" in rest or any(ord(character) < 32 for character in rest):
        raise _not_a_url("it has a # or a control character")
    location, _, query = rest.partition("?")
    authority, _, database = location.partition("/")
    login, _, hosts = authority.rpartition("@")
    if not all(HOST.fullmatch(host) for host in hosts.split(",")):
        raise _not_a_url("its host or port is not valid")
    if "/" in database or "@" in database or "@" in query:
        raise _not_a_url("its database name is not valid")
    user, colon, password = login.partition(":")
    return DatabaseUrl(
        unquote(user), unquote(password) if colon else None, hosts, unquote(database), _parameters(query)
    )


def parse_now(url: Url) -> DatabaseUrl:
    """Parses the URL for the next connection. Raises DatabaseUrlError; ChangedUrlError for a secret."""
    if isinstance(url, str):
        return parse(url)
    try:
        return parse(url.get_secret_value())
    except DatabaseUrlError as error:
        raise ChangedUrlError(str(error)) from None


def _parameters(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        name, equals, value = pair.partition("=")
        if name in REFUSED:
            raise DatabaseUrlError(f"the parameter {name} of a PostgreSQL URL cannot be used here; leave it out")
        if name not in ALLOWED or not equals:
            raise _not_a_url("it has a parameter that PostgreSQL does not know")
        found[name] = unquote(value)
        _check(name, found[name])
    return found


def _check(name: str, value: str) -> None:
    allowed = ALLOWED[name].split()
    if allowed and value not in allowed:
        raise DatabaseUrlError(f"the parameter {name} of a PostgreSQL URL can only be {', '.join(allowed)} here")
    if name == "connect_timeout" and not (value.isascii() and value.isdigit() and len(value) < 6):
        raise DatabaseUrlError("the parameter connect_timeout of a PostgreSQL URL is a number of seconds")
    if name == "port" and not re.fullmatch(r"[0-9]{1,5}(,[0-9]{1,5})*", value):
        raise DatabaseUrlError("the parameter port of a PostgreSQL URL is a number")
    if name == "sslrootcert" and value == "system":
        raise DatabaseUrlError(
            "the parameter sslrootcert of a PostgreSQL URL names a file here; `system` cannot be used"
        )


def plaintext_by_default(url: DatabaseUrl) -> bool:
    """Returns whether a connection may go beyond this machine without TLS, and the URL does not say so.

    Without an sslmode, a server that offers no TLS, or an attacker who claims so, gets everything in the clear.
    """
    mode = url.parameters.get("sslmode") or os.environ.get("PGSSLMODE", "")
    named = [*url.parameters.get("host", "").split(","), *url.hosts.split(",")]
    hosts = [unquote(PORT.sub("", host)).strip("[]") for host in named if host] or [os.environ.get("PGHOST", "")]
    return mode not in SAID and not all(host.startswith("/") or host in ON_THIS_MACHINE for host in hosts)


def _not_a_url(why: str) -> DatabaseUrlError:
    return DatabaseUrlError(f"this is not a PostgreSQL URL: {why}. {FORM}")


def _checked(secret: SecretStr) -> SecretStr:
    parse(secret.get_secret_value())
    return secret


def _checked_or_empty(secret: SecretStr) -> SecretStr:
    return _checked(secret) if secret.get_secret_value() else secret


DatabaseUrlSetting = Annotated[SecretStr, AfterValidator(_checked)]
OptionalDatabaseUrlSetting = Annotated[SecretStr, AfterValidator(_checked_or_empty)]
