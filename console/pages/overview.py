"""`/console`: is everything all right, and if not, what is wrong and what to do; and the last days as graphs."""

import time
from typing import Any

from litestar import Response, get

from console.asking import HTML, AnyRequest, Asking, PageError, TheConsole
from console.looking.history import RANGES
from console.looking.watch import LOOK, time_left
from console.rendering import HEADERS

GRAPHS = (
    ("Events per second", ("accepted", "projected", "refused"), "/s"),
    ("Lag, events", ("lag",), ""),
    ("Lag, seconds", ("lag_seconds",), "s"),
    ("POST to acknowledged by Kafka", ("post_p50", "post_p99"), "s"),
    ("Recorded to visible", ("visible_p50", "visible_p99"), "s"),
    ("Dead letters", ("dead_letters",), ""),
    ("Live streams", ("streams",), ""),
)


@get("/console", include_in_schema=False)
async def overview(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """The page."""
    asking = console.asking(request)
    asked = asking.query.get("range", "15m")
    asked = asked if asked in RANGES else "15m"
    return asking.page("overview.html", now=now_shown(asking).decode(), asked=asked, ranges=list(RANGES), graphs=GRAPHS)


@get("/console/now", include_in_schema=False)
async def now(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """The part of the overview that changes all the time, the same for all who look."""
    return Response(now_shown(console.asking(request)), media_type=HTML, headers=HEADERS)


@get("/console/history.json", include_in_schema=False)
async def history(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """The columns of the graphs."""
    body = await console.history.series(console.pool(), range_viewed(request, console))
    return Response(body, media_type="application/json", headers=HEADERS)


@get("/console/lags.json", include_in_schema=False)
async def lags(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """The columns of the graph of partitions."""
    body = await console.history.lags(console.pool(), range_viewed(request, console))
    return Response(body, media_type="application/json", headers=HEADERS)


def range_viewed(request: AnyRequest, console: TheConsole) -> str:
    """The range that is asked for; somebody watches now. Raises PageError if there is no such range."""
    asked = console.asking(request).query.get("range", "15m")
    if asked not in RANGES:
        raise PageError(404, "There is no such range.")
    console.watch.viewed()
    return asked


def now_shown(asking: Asking) -> bytes:
    """`now.html`, made once for each look, whoever asks; and again where it is long since, for it says how long."""
    console, at = asking.console, (asking.console.watch.viewed().number, int(time.monotonic() / LOOK))
    made, body = console.now
    if made != at:
        body = asking.text("now.html", **now_of(asking)).encode()
        console.now = at, body
    return body


def now_of(asking: Asking) -> dict[str, Any]:
    """What the overview says about now."""
    seen, active = asking.console.watch.viewed(), asking.console.watch.seen.active()
    return {
        "bad": [found for found in seen.findings if found.verdict != "well"],
        "well": [found for found in seen.findings if found.verdict == "well"],
        "last": asking.console.history.last,
        "lag": seen.lag(),
        "left": None if active is None else time_left(active.partitions, active.name, asking.console.watch.paces),
        "skewed": skew(seen.partitions()),
    }


def skew(partitions: Any) -> list[Any]:
    """The partitions that hold most of the lag: more than three times their share, of a lag that counts."""
    lag = sum(each.lag for each in partitions)
    return [each for each in partitions if lag > 1000 and each.lag * len(partitions) > 3 * lag]


OVERVIEW_ROUTES = (overview, now, history, lags)
