"""Structured logs: JSON lines, or coloured text in a terminal; fields with personal data are masked."""

import logging
import sys
from collections.abc import Iterable

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from telemetry.log_throttle import LogThrottle

MASK = "***"
ALWAYS_MASKED = frozenset({"body", "value", "key", "password", "authorization", "cookie"})


def configure_logs(level: str, personal_fields: Iterable[str] = ()) -> None:
    """Sends the records of structlog and of the standard library (uvicorn, aiokafka, ..) to stderr in one format.

    Args:
        level: Least level that is logged.
        personal_fields: Names of log fields whose values are masked.
    """
    masked = ALWAYS_MASKED | set(personal_fields)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _mask(masked),
    ]
    terminal = sys.stderr.isatty()
    last: list[Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if terminal
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    handler.addFilter(LogThrottle("aiokafka"))  # without a broker it logs that 60 times a second
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # At lower levels aiokafka logs every connection failure and every step of its consumer group.
    logging.getLogger("aiokafka").setLevel("ERROR")
    logging.getLogger("uvicorn").setLevel("WARNING")
    logging.getLogger("httpx").setLevel("WARNING")  # it logs every request
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _mask(names: frozenset[str]) -> Processor:
    def mask(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        for name in names & event.keys():
            event[name] = MASK
        return event

    return mask


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Returns a structured logger; `name` is the room."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
