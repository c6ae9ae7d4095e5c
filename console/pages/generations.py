"""`/console/rebuilds` and `/console/projectors`: what is projected where and how fast, and what can be done to it."""

from collections.abc import Mapping
from typing import Any

from litestar import Response, get, post

from console.actions.generations import ACTIONS, SERVES, work_of
from console.actions.jobs import new_number
from console.asking import MAX_FORM_BYTES, AnyRequest, Asking, PageError, TheConsole
from console.looking.history import RANGES
from console.looking.watch import time_left
from console.pages.jobs import NUMBER, begun
from operations.settings import RebuildSettings

OF_STATE = {
    "active": (),
    "building": ("pause", "verify", "promote", "cancel"),
    "paused": ("resume", "cancel"),
    "standby": ("verify", "rollback", "drop"),
    "dropping": (),
}


@get("/console/rebuilds", include_in_schema=False)
async def rebuilds(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """Every generation, how far it is, and when it will be there."""
    asking = console.asking(request)
    generations = seen_generations(asking)
    template = "rebuilds_part.html" if asking.is_partial else "rebuilds.html"
    can_start = bool(generations) and not any(each.state in ("building", "paused", "standby") for each in generations)
    return asking.page(
        template,
        generations=generations,
        paces=console.watch.paces,
        left=time_left,
        of_state=OF_STATE,
        can_start=can_start,
    )


@get("/console/projectors", include_in_schema=False)
async def projectors(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """Each partition of each generation: owner, state, reason, pace; and the processes."""
    asking = console.asking(request)
    template = "projectors_part.html" if asking.is_partial else "projectors.html"
    asked = asking.query.get("range", "15m")
    asked = asked if asked in RANGES else "15m"
    return asking.page(
        template,
        generations=seen_generations(asking),
        sinks=seen_sinks(asking),
        paces=console.watch.paces,
        asked=asked,
        ranges=list(RANGES),
    )


@get("/console/generations/ask", include_in_schema=False)
async def ask(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """Says what it will do, and asks. It changes nothing, so a browser may come back to it."""
    asking = console.asking(request)
    asking.require_acting()
    what = chosen(asking.query)
    serving = console.watch.seen.active()
    given = {name: asking.query[name] for name in ("rate", "partition") if asking.query.get(name)}
    given |= {NUMBER: new_number(), SERVES: serving.name if serving else ""}
    return asking.page("ask.html", what=what, action=ACTIONS[what], given=given, back=back_of(what))


@post("/console/generations/do", include_in_schema=False, request_max_body_size=MAX_FORM_BYTES)
async def do(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """Does it."""
    asking = console.asking(request)
    form = await asking.form()
    what = chosen(form)
    settings = RebuildSettings.model_construct(
        **{**console.projecting.model_dump(), "database_url": console.settings.operator_database_url}
    )
    work = work_of(ACTIONS[what], settings, asking.actor(), form)
    return await begun(asking, form, ACTIONS[what].name, back_of(what), work)


def chosen(form: Mapping[str, str]) -> str:
    """Which action. Raises PageError."""
    what = form.get("what", "")
    if what not in ACTIONS or (what in ("stop", "restart") and not form.get("partition", "").isdigit()):
        raise PageError(400, "There is no such action.")
    return what


def back_of(what: str) -> str:
    """The page that the action is on."""
    return "/console/projectors" if what in ("stop", "restart") else "/console/rebuilds"


def seen_sinks(asking: Asking) -> list[Any]:
    """The sinks that the last look saw; nothing while a server is away."""
    status = asking.console.watch.viewed().status
    return list(status.sinks) if status else []


def seen_generations(asking: Asking) -> list[Any]:
    """What the last look saw; nothing while a server is away."""
    status = asking.console.watch.viewed().status
    return list(status.generations) if status else []


GENERATION_ROUTES = (rebuilds, projectors, ask, do)
