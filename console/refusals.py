"""What a browser is shown when something is refused before a page is asked: by the door, a limit, or the router."""

from console.asking import Asking, Console
from console.rendering import CONTENT_SECURITY_POLICY
from web.asgi import Headers
from web.policies.request_head import RequestHead

HEADERS: Headers = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
]
REMEDIES = {
    400: "Open the page again, and repeat what you did.",
    403: "Sign out, and sign in with a key or token that has it. Whoever keeps the keys makes one by `footfall keys`.",
    404: "The pages that there are stand beside, or are reached from the overview.",
    421: "Open the console by the name that it is known by, or add this one there.",
    429: "Wait a moment, and try again.",
    500: "Try again. If it happens again, the log of the console has this request by its number, below.",
    503: "Try again in a moment. Until then `footfall doctor` says what is wrong: it is run on the machine, and asks "
    "for no key.",
}


class ConsoleRefusals:
    """See `web.policies.refusal_pages.RefusalPages`."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def is_for(self, head: RequestHead) -> bool:
        """A browser that goes to a page of the console; a part of an open page is none."""
        if head.path != "/console" and not head.path.startswith("/console/"):
            return False
        takes = b",".join(value for name, value in head.headers if name == b"accept")
        return b"text/html" in takes and not any(name == b"hx-request" for name, _ in head.headers)

    def page(self, head: RequestHead, status: int, says: str, request_id: str) -> tuple[bytes, Headers]:
        """The page that says so, and what to do."""
        asking = Asking(self._console, head, request_id)
        again = head.path if head.method == "GET" else ""
        remedy = REMEDIES.get(status, "")
        return asking.text("error.html", code=status, says=says, remedy=remedy, again=again).encode(), HEADERS
