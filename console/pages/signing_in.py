"""`/console/sign-in`: a key or a token in a form, as a browser cannot send it in a header."""

from litestar import Response, get, post

from console.asking import MAX_FORM_BYTES, AnyRequest, TheConsole, to
from console.sessions import COOKIE, SECURE_COOKIE, SIGN_IN, cookie_of
from telemetry.logs import get_logger

LONGEST = 16_384  # characters of a token


@get(SIGN_IN, include_in_schema=False)
async def sign_in_page(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """The form."""
    asking = console.asking(request)
    return to("/console") if console.sessions.is_open else asking.page("sign_in.html", problem="")


@post(SIGN_IN, include_in_schema=False, request_max_body_size=MAX_FORM_BYTES)
async def sign_in(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """Opens a session for whoever shows a good key."""
    asking = console.asking(request)
    key = (await asking.submitted()).get("key", "").strip()
    fits = 0 < len(key) <= LONGEST and key.isascii() and key.isprintable() and " " not in key
    owner = await console.sessions.owner_of(asking.head, key.encode()) if fits else None
    if owner is None:
        return asking.page("sign_in.html", 403, problem="That key or token opens nothing here.")
    is_secure = is_https(asking.head.scheme, dict(asking.head.headers))
    cookie, secure = (SECURE_COOKIE, "; Secure") if is_secure else (COOKIE, "")
    console.sessions.close(cookie_of(asking.head))
    name = console.sessions.open(key, cookie=cookie)
    get_logger("console").info("signed_in", subject=owner.subject)
    answer = to("/console")
    answer.headers["set-cookie"] = f"{cookie}={name}; Path=/; HttpOnly; SameSite=Strict{secure}"
    return answer


@post("/console/sign-out", include_in_schema=False, request_max_body_size=MAX_FORM_BYTES)
async def sign_out(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """Ends the session. What is left of the cookie opens nothing; the browser forgets it, and what it kept of pages."""
    asking = console.asking(request)
    await asking.submitted()
    console.sessions.close(cookie_of(asking.head))
    get_logger("console").info("signed_out", subject=asking.principal.subject)
    answer = to(SIGN_IN)
    is_secure = is_https(asking.head.scheme, dict(asking.head.headers))
    cookie, secure = (SECURE_COOKIE, "; Secure") if is_secure else (COOKIE, "")
    answer.headers["set-cookie"] = f"{cookie}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0{secure}"
    answer.headers["clear-site-data"] = '"cache", "storage"'
    return answer


def is_https(scheme: str, headers: dict[bytes, bytes]) -> bool:
    """Whether the browser speaks TLS, to us or to a proxy. Whoever lies here only harms their own cookie."""
    return scheme == "https" or headers.get(b"origin", b"").startswith(b"https://")


SIGN_IN_ROUTES = (sign_in_page, sign_in, sign_out)
