"""The body of a command, read within its bounds, and work that ends when its client disconnects."""

import asyncio
import types
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from command_side.policies.command_heads import CLOSE, too_large
from command_side.submission import OnResult, Result, Submission
from web.asgi import ON_DISCONNECT_KEY, Receive, Scope
from web.policies.decisions import RefusedError

T = TypeVar("T")


class ClientGoneError(Exception):
    """The client left; nobody waits for an answer."""


async def read_body(receive: Receive, max_bytes: int, timeout: float) -> bytes:
    """The whole body, never holding more than `max_bytes`. Raises TimeoutError after `timeout` seconds.

    A small body has arrived with its head, so `receive` returns without waiting. Looking whether it does spares the
    timer: on Python 3.11 `asyncio.timeout` makes three system calls (docs/performance.md).
    """
    receiving: Any = receive()
    try:
        waits_for = receiving.send(None)
    except StopIteration as arrived:
        message = arrived.value
    else:
        async with asyncio.timeout(timeout):
            message = await resumed(receiving, waits_for)
            return await read_rest(message, receive, max_bytes)
    if not message.get("more_body", False):
        return await read_rest(message, receive, max_bytes)
    async with asyncio.timeout(timeout):
        return await read_rest(message, receive, max_bytes)


@types.coroutine
def resumed(coroutine: Any, waits_for: Any) -> Any:
    """Awaits the rest of a coroutine that was started by hand and waits for the future `waits_for`."""
    try:
        while True:
            try:
                value = yield waits_for
            except BaseException as error:  # noqa: BLE001 - a cancellation above all: the coroutine decides
                waits_for = coroutine.throw(error)
            else:
                waits_for = coroutine.send(value)
    except StopIteration as end:
        return end.value


async def read_rest(message: Any, receive: Receive, max_bytes: int) -> bytes:
    body: bytes = message.get("body", b"")
    while message.get("more_body", False):
        if len(body) > max_bytes:
            break
        message = await receive()
        body += message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    if len(body) > max_bytes:
        raise RefusedError(413, too_large(max_bytes), CLOSE)
    return body


async def result_of(scope: Scope, submit: Callable[[OnResult], Result | Submission]) -> Result:
    """Awaits the call with the result of a submission. Raises ClientGoneError when its client disconnects.

    What goes on without its client is awaited all the same: it counts as in flight.
    """
    known: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def on_result(result: Result) -> None:
        if not known.done():
            known.set_result(result)

    begun = submit(on_result)
    if not isinstance(begun, Submission):
        return begun
    try:
        if begun.goes_on_without_client:
            return await known
        return await cancel_on_disconnect(scope, known, begun.abandon)
    finally:
        begun.abandon()


async def cancel_on_disconnect(
    scope: Scope, work: Coroutine[Any, Any, T] | asyncio.Future[T], on_leave: Callable[[], None] = lambda: None
) -> T:
    """Returns what `work` returns. When the client disconnects, calls `on_leave` and cancels the work.

    Raises:
        ClientGoneError: The client has disconnected.
    """
    on_disconnect = scope.get(ON_DISCONNECT_KEY)
    if on_disconnect is None:
        return await work
    task, gone = asyncio.ensure_future(work), False  # a future is taken as it is

    def leave() -> None:
        nonlocal gone
        gone = True
        on_leave()
        task.cancel()

    on_disconnect(leave)
    try:
        return await task
    except asyncio.CancelledError:
        if gone:
            raise ClientGoneError from None
        raise
    finally:
        on_disconnect(None)
