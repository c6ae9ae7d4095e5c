"""Structured logs: JSON lines, or coloured text in a terminal; fields with personal data are masked.

The text of an exception may quote what it was raised for, so only the level DEBUG shows it.
"""

import logging
import re
import sys
import traceback
from collections.abc import Iterable

import structlog
from structlog.processors import ExceptionRenderer
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from telemetry.current_request import current_request
from telemetry.log_throttle import LogThrottle

MASK = "***"
_without_keys = re.compile(r"ff[wsa]_[0-9A-Za-z]{43}").sub  # API keys, wherever they stand
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
        _with_request,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _mask(masked),
    ]
    told = structlog.processors.format_exc_info if level == "DEBUG" else ExceptionRenderer(without_words)
    terminal = sys.stderr.isatty()
    last: list[Processor] = [told, structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    handler.addFilter(LogThrottle("aiokafka"))  # without a broker it logs that 60 times a second
    # It logs each request that is no HTTP, which anybody can send. Its errors have tracebacks, of which each counts.
    handler.addFilter(LogThrottle("uvicorn", seconds=1.0, up_to=logging.WARNING))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # At lower levels aiokafka logs every connection failure and every step of its consumer group.
    logging.getLogger("aiokafka").setLevel("ERROR")
    logging.getLogger("uvicorn").setLevel("WARNING")
    logging.getLogger("httpx").setLevel("WARNING")  # it logs every request
    logging.getLogger("asyncio").filters[:] = [] if level == "DEBUG" else [_first_line]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def without_words(exc_info: ExcInfo) -> str:
    """A traceback with the classes of its exceptions and without their texts; causes first, as Python shows them."""
    return "\n".join(_told(exc_info[1], set()))


def _told(error: BaseException | None, seen: set[int]) -> list[str]:
    if error is None or id(error) in seen:
        return []
    seen.add(id(error))
    before = error.__cause__ if error.__cause__ is not None or error.__suppress_context__ else error.__context__
    frames = "".join(traceback.format_tb(error.__traceback__)).rstrip("\n")
    own = [*filter(None, [frames]), f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")]
    inner = [line for each in getattr(error, "exceptions", ()) for line in _told(each, seen)]
    return [*_told(before, seen), *own, *inner]


def _with_request(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    request = current_request()
    if request is not None:
        event.setdefault("request_id", request.request_id)
        if request.trace is not None:
            event.setdefault("trace_id", request.trace.trace_id)
    return event


def _first_line(record: logging.LogRecord) -> bool:
    """A filter. The event loop tells in its second line the repr of a task, and with it that of its exception."""
    record.msg, record.args = record.getMessage().partition("\n")[0], ()
    return True


def _mask(names: frozenset[str]) -> Processor:
    def mask(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        for name in names & event.keys():
            event[name] = MASK
        for name, value in event.items():
            if isinstance(value, str) and "ff" in value:
                event[name] = _without_keys(MASK, value)
        return event

    return mask


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Returns a structured logger; `name` is the room."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
