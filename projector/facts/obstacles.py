"""Names what a failed attempt ran into, in the few words that the metric `projection_obstacles_total` has."""

import asyncpg
from aiokafka.errors import KafkaError

AWAY_CLASSES = ("08", "57")  # connection exception, operator intervention
CODES = {
    "53100": "disk_full",
    "53300": "connections",
    "25006": "read_only",
    "55P03": "lock",
    "40P01": "lock",
    "57014": "lock",  # a statement that took too long; it usually waited
    "28P01": "password",
    "28000": "password",
    "42501": "privilege",
}


def reason_of(error: BaseException) -> str:
    """Returns one of `telemetry.server_facts.REASONS`."""
    cause = error.__cause__ or error
    if isinstance(cause, asyncpg.PostgresError):
        code = cause.sqlstate or ""
        return CODES.get(code) or ("away" if code[:2] in AWAY_CLASSES else "other")
    return "away" if isinstance(cause, (OSError, EOFError, KafkaError, asyncpg.InterfaceError)) else "other"
