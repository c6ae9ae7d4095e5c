"""`/console/sign-in`: a key or a token in a form, as a browser cannot send it in a header."""

from litestar import Response, get, post

from console.asking import MAX_FORM_BYTES, AnyRequest, TheConsole, to
from console.sessions import COOKIE, SECURE_COOKIE, SIGN_IN, SIGN_OUT, Sessions, cookie_of
from telemetry.logs import get_logger
from web.policies.decisions import Refuse
from web.policies.principal import AccessScope, Principal
from web.policies.request_head import RequestHead

LONGEST = 16_384  # characters of a token
OPENS_NOTHING = "That key or token opens nothing here."
UNTIL_THEN = (
    "What it is checked by does not answer: Kafka for keys, the issuer for tokens. Until it does, `footfall doctor` "
    "says what is wrong: it is run on the machine, and asks for no key."
)
LOOKS_AT_NOTHING = "That key or token lacks the scope events:read, which every page takes. Use one that has it."
ENDED = (
    "The session has ended, or another console process has it. Sign in again. A form that was sent since then was not "
    "taken, and nothing was done. If you are asked again and again, several processes answer in turn: a proxy before "
    "them has to lead each browser to the same one (docs/console.md)."
)


@get(SIGN_IN, include_in_schema=False)
async def sign_in_page(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """The form."""
    asking = console.asking(request)
    if console.sessions.is_open:
        return to("/console")
    return asking.page("sign_in.html", problem=ENDED if console.sessions.has_ended(asking.head) else "")


@post(SIGN_IN, include_in_schema=False, request_max_body_size=MAX_FORM_BYTES)
async def sign_in(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """Opens a session for whoever shows a good key."""
    asking = console.asking(request)
    key = (await asking.submitted()).get("key", "").strip()
    owner = await admitted(console.sessions, asking.head, key)
    if isinstance(owner, Refuse):
        problem = f"{owner.error} {UNTIL_THEN}" if owner.status >= 500 else owner.error
        return asking.page("sign_in.html", owner.status, problem=problem)
    is_secure = is_https(asking.head.scheme, dict(asking.head.headers))
    cookie, secure = (SECURE_COOKIE, "; Secure") if is_secure else (COOKIE, "")
    console.sessions.close(cookie_of(asking.head))
    client = asking.head.client
    address = client[0] if client is not None else ""
    name = console.sessions.open(key, cookie=cookie, subject=owner.subject, address=address)
    get_logger("console").info("signed_in", subject=owner.subject)
    answer = to("/console")
    answer.headers["set-cookie"] = f"{cookie}={name}; Path=/; HttpOnly; SameSite=Strict{secure}"
    return answer


@post(SIGN_OUT, include_in_schema=False, request_max_body_size=MAX_FORM_BYTES)
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


async def admitted(sessions: Sessions, head: RequestHead, key: str) -> Principal | Refuse:
    """Whose session may begin, or the sentence for the page: what identity says, as a program is told it."""
    fits = 0 < len(key) <= LONGEST and key.isascii() and key.isprintable() and " " not in key
    if not fits:
        return Refuse(403, OPENS_NOTHING)
    found = await sessions.owner_of(head, key.encode())
    if isinstance(found, Refuse):
        return found if found.status >= 500 else Refuse(403, f"{OPENS_NOTHING} {found.error}")
    return found if AccessScope.EVENTS_READ in found.scopes else Refuse(403, LOOKS_AT_NOTHING)


def is_https(scheme: str, headers: dict[bytes, bytes]) -> bool:
    """Whether the browser speaks TLS, to us or to a proxy. Whoever lies here only harms their own cookie.

    A form may come without `Origin`, of an old browser; a proxy may say nothing, and the page's address does.
    """
    by_proxy = headers.get(b"x-forwarded-proto", b"").partition(b",")[0].strip()
    pages = (headers.get(b"origin", b""), headers.get(b"referer", b""))
    return scheme == "https" or by_proxy == b"https" or any(page.startswith(b"https://") for page in pages)


SIGN_IN_ROUTES = (sign_in_page, sign_in, sign_out)
