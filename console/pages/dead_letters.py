"""`/console/dead-letters`: what is set aside and why, who waits, and what can be done about it."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Response, get, post

from console.actions.dead_letters import Means, predicted, work_of
from console.asking import MAX_FORM_BYTES, AnyRequest, Asking, PageError, TheConsole, address, to
from console.pages.jobs import NUMBER, begun
from operations.audit.log import AuditFilter, list_entries
from operations.dead_letters import FIRST, causes_of_letters, page_letters, show_letter, waiting_letters
from operations.settings import AuditSettings, DlqSettings
from projector.dead_letters.letter_filter import LetterFilter

HERE = "/console/dead-letters"
PAGE = 50  # letters
FORGOTTEN = "What would happen is not known any more: it was asked long ago, or of another process. Ask again."
FIELDS = ("state", "cause", "error", "tenant", "user", "topic", "partition", "offset", "since", "until")
STATES = ("parked", "redriven", "discarded", "all")
CAUSES = ("poison", "newer_version", "behind")
SHOWN_BYTES = 65_536  # of a value; the whole is in `footfall dlq show --raw`


@get(HERE, include_in_schema=False)
async def letters(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """One page of them, by cause and by what they wait for."""
    asking = console.asking(request)
    chosen = filter_of(asking, asking.query)
    if chosen.user is not None:
        raise PageError(400, "The list shows no users. Enter a user only to redrive or discard.")
    after = place_of(asking.query.get("after", ""))
    async with console.pool().acquire() as connection:
        page = await page_letters(connection, chosen, after, PAGE + 1)
        causes = await causes_of_letters(connection, chosen)
        waiting = await waiting_letters(connection, chosen)
    given = {name: asking.query[name] for name in FIELDS if asking.query.get(name)}
    more = address(HERE, {**given, "after": text_of(page[PAGE - 1])}) if len(page) > PAGE else None
    return asking.page(
        "dead_letters.html",
        letters=page[:PAGE],
        causes=causes,
        waiting=waiting,
        more=more,
        given=given,
        total=sum(each["letters"] for each in causes),
        first=address(HERE, given) if after != FIRST else None,
        states=STATES,
        names=CAUSES,
    )


@get(f"{HERE}/one", include_in_schema=False)
async def one_letter(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """One of them with its bytes. Whoever opens it is in the audit log."""
    asking = console.asking(request)
    if not asking.can_act:
        raise PageError(403, "This console only looks; a letter's bytes are opened with OPERATOR_DATABASE_URL.")
    topic, partition, offset = place_of(asking.query.get("at", ""))
    settings = dlq_settings(asking)
    letter = await show_letter(settings, topic, partition, offset, raw=True, actor=asking.actor())
    if letter is None:
        raise PageError(404, "There is no such dead letter in the generation that is active now.")
    value = letter["value"]
    cut = None if value is None or len(value) <= SHOWN_BYTES else len(value)
    return asking.page("dead_letter.html", letter=letter, value=value and value[:SHOWN_BYTES], cut=cut)


@post(f"{HERE}/predict", include_in_schema=False, request_max_body_size=MAX_FORM_BYTES)
async def predict(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """Tries what would happen, and leads to the page that shows it."""
    asking = console.asking(request)
    form = await asking.form()
    what = "discard" if form.get("what") == "discard" else "redrive"
    chosen = filter_of(asking, form)
    if what == "discard" and not named(form):
        raise PageError(400, "Say which letters to discard: at least one filter.")
    found = await predicted(means_of(asking), what, chosen, asking.actor())
    kept = console.predictions.keep(what, named(form), found)
    return to(address(f"{HERE}/predict", {NUMBER: kept.number}))


@get(f"{HERE}/predict", include_in_schema=False)
async def prediction(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """What would happen; then the question whether it shall, or what came of it if it was begun."""
    asking = console.asking(request)
    number = asking.query.get(NUMBER, "")
    kept = console.predictions.find(number)
    if kept is None:
        raise PageError(404, FORGOTTEN)
    return asking.page("predicted.html", kept=kept, job=console.jobs.find(number))


@post(f"{HERE}/redrive", include_in_schema=False, request_max_body_size=MAX_FORM_BYTES)
async def redrive(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """Processes them again."""
    asking = console.asking(request)
    form = await asking.form()
    work = work_of(means_of(asking), "redrive", filter_of(asking, form), asking.actor())
    return await begun(asking, form, "dlq redrive", HERE, work)


@post(f"{HERE}/discard", include_in_schema=False, request_max_body_size=MAX_FORM_BYTES)
async def discard(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """Gives them up."""
    asking = console.asking(request)
    form = await asking.form()
    if not named(form):
        raise PageError(400, "Say which letters to discard: at least one filter.")
    work = work_of(means_of(asking), "discard", filter_of(asking, form), asking.actor())
    return await begun(asking, form, "dlq discard", HERE, work)


@get(f"{HERE}/done", include_in_schema=False)
async def done(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """What was done to dead letters, by whom."""
    asking = console.asking(request)
    if not asking.can_act:
        raise PageError(403, "The audit log is read with OPERATOR_DATABASE_URL.")
    rows = await list_entries(audit_settings(asking), AuditFilter(action="dlq"), 200)
    return asking.page("done.html", rows=rows)


def filter_of(asking: Asking, given: Any) -> LetterFilter:
    """The filter in a query or a form. Raises PageError for what is none."""
    try:
        first, last = offsets_of(given.get("offset", ""))
        partition = given.get("partition")
        return LetterFilter(
            user=given.get("user") or None,
            error=given.get("error") or None,
            cause=msgspec.convert(given.get("cause") or None, LetterFilter.__annotations__["cause"]),
            since=moment_of(given.get("since")),
            until=moment_of(given.get("until")),
            topic=given.get("topic") or None,
            partition=number_of(partition) if partition else None,
            from_offset=first,
            to_offset=last,
            state=None if given.get("state") == "all" else given.get("state") or "parked",
            tenant=asking.tenant or given.get("tenant") or None,
        )
    except ValueError as error:
        raise PageError(400, f"The filter cannot be read: {error}.") from None


def named(given: Any) -> dict[str, str]:
    """The conditions that somebody set, without the state, which all have."""
    return {name: given[name] for name in FIELDS if name != "state" and given.get(name)}


def offsets_of(text: str) -> tuple[int | None, int | None]:
    """One offset or a range: 17, 17-40, 17-, -40."""
    first, dash, last = text.strip().partition("-")
    ends = (first, last) if dash else (first, first)
    return tuple(number_of(end) if end else None for end in ends)  # type: ignore[return-value]


def number_of(text: str) -> int:
    """A whole number that PostgreSQL can hold."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ValueError(f"{text[:40]!r} is not a whole number")
    return int(text)


def moment_of(text: str | None) -> datetime | None:
    """A time; UTC if it names no offset."""
    if not text:
        return None
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def place_of(text: str) -> tuple[str, int, int]:
    """`topic/partition/offset`; what is none is before every letter."""
    topic, _, rest = text.rpartition("/")[0].rpartition("/")
    try:
        return (topic, number_of(rest), number_of(text.rpartition("/")[2])) if text else FIRST
    except ValueError:
        return FIRST


def text_of(letter: Any) -> str:
    """The place of a letter, as `place_of` reads it."""
    return f"{letter['kafka_topic']}/{letter['kafka_partition']}/{letter['kafka_offset']}"


def dlq_settings(asking: Asking) -> DlqSettings:
    """Those of `footfall dlq`, as the operator's role."""
    settings = asking.console.settings
    return DlqSettings.model_construct(
        database_url=settings.operator_database_url, event_types_file=settings.event_types_file
    )


def means_of(asking: Asking) -> Means:
    """What a run needs."""
    return Means(dlq_settings(asking), asking.console.catalogue, asking.console.keys)


def audit_settings(asking: Asking) -> AuditSettings:
    """Those of `footfall audit`, as the operator's role."""
    projecting = asking.console.projecting
    return AuditSettings.model_construct(
        **{**projecting.model_dump(), "database_url": asking.console.settings.operator_database_url}
    )


DEAD_LETTER_ROUTES = (letters, one_letter, predict, prediction, redrive, discard, done)
