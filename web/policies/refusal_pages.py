"""A refusal is an envelope to a program. A process that has pages shows a browser the same sentence as a page.

Whatever refuses is shown so: a policy, the router, a failure that nobody foresaw.
"""

from typing import Protocol

import msgspec

from web.asgi import WHOLE_KEY, Headers, Message, Send
from web.envelope import Envelope
from web.policies.request_head import RequestHead

OF_BODY = (b"content-type", b"content-length")

_decode = msgspec.json.Decoder(Envelope).decode


class RefusalPages(Protocol):
    """The pages of one process."""

    def is_for(self, head: RequestHead) -> bool:
        """Whether whoever sent this is a browser that shows a page."""
        ...

    def page(self, head: RequestHead, status: int, says: str, request_id: str) -> tuple[bytes, Headers]:
        """The body of the page that says so, and its headers."""
        ...


def as_pages(pages: RefusalPages, head: RequestHead, request_id: str, send: Send) -> Send:
    """`send`, before which each envelope of a refusal becomes a page."""
    held: Message | None = None
    body = b""

    async def send_page(message: Message) -> None:
        nonlocal held, body
        if message["type"] == "http.response.start" and is_refusal(message):
            held, body = message, b""
            return
        if held is None:
            await send(message)
            return
        body += message.get("body", b"")
        if message.get("more_body"):
            return
        start, held = held, None
        page, headers = pages.page(head, start["status"], sentence_of(body), request_id)
        kept = [(name, value) for name, value in start["headers"] if name.lower() not in OF_BODY]
        of_page = [*headers, (b"content-length", b"%d" % len(page))]
        await send({**start, "headers": [*kept, *of_page], WHOLE_KEY: False})
        await send({"type": "http.response.body", "body": page})

    return send_page


def is_refusal(start: Message) -> bool:
    """Whether an answer that begins so is an envelope of a refusal."""
    types = [value for name, value in start["headers"] if name.lower() == b"content-type"]
    return start["status"] >= 400 and types == [b"application/json"]


def sentence_of(body: bytes) -> str:
    """What an envelope says. Raises msgspec.MsgspecError for what is none."""
    said = _decode(body)
    return said.error or " ".join(said.errors or ())
