"""`/console/sessions`: who is signed in at this process. Everybody sees and ends their own sessions, operators all."""

from litestar import Response, get, post

from console.asking import MAX_FORM_BYTES, AnyRequest, Asking, PageError, TheConsole, to
from console.pages.signing_in import admitted
from telemetry.logs import get_logger
from web.policies.decisions import Refuse

SESSIONS = "/console/sessions"
OTHERS = "others"  # instead of a session's name: all of one's own but this one
NOT_YOURS = "That is not the key or token of this session, so nothing was ended. Use the one that you signed in with."
GONE = "There is no such session any more."


@get(SESSIONS, include_in_schema=False)
async def sessions_page(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """The list."""
    asking = console.asking(request)
    if console.sessions.is_open:
        return to("/console")
    return _page(asking)


@post(f"{SESSIONS}/end", include_in_schema=False, request_max_body_size=MAX_FORM_BYTES)
async def end_session(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """Ends one, or all others of one's own, for whoever shows the key or token of their session once more."""
    asking = console.asking(request)
    form = await asking.submitted()
    owner = await admitted(console.sessions, asking.head, form.get("key", "").strip())
    if isinstance(owner, Refuse):
        return _page(asking, owner.status, owner.error)
    if owner.subject != asking.principal.subject:
        return _page(asking, 403, NOT_YOURS)
    for name in _chosen(asking, form.get("session", "")):
        ended = console.sessions.end(name, None if asking.is_operator else owner.subject)
        if ended is None:
            raise PageError(404, GONE)
        get_logger("console").info("session_ended", subject=ended, by=owner.subject)
    return to(SESSIONS)


def _chosen(asking: Asking, name: str) -> list[str]:
    if name != OTHERS:
        return [name]
    mine = asking.console.sessions.known(asking.head, asking.principal.subject)
    return [each.name for each in mine if not each.is_this]


def _page(asking: Asking, status: int = 200, problem: str = "") -> Response[bytes]:
    subject = asking.principal.subject
    known = asking.console.sessions.known(asking.head, None if asking.is_operator else subject)
    return asking.page("sessions.html", status, known=known, subject=subject, problem=problem)


SESSION_ROUTES = (sessions_page, end_session)
