"""Measures the CPU that a POST costs the command side: open, with a key, with a token, with rates, beside bare ASGI."""

from bench.post_cpu_process import Spent, Way
from bench.result import Result, absolute, compared
from bench.stage import Stage

WAYS = ("bare", "open", "key", "token", "limits")
BARE = "plain uvicorn with a bare ASGI app"
DOOR = 2.0  # microseconds that a key or a token may cost


def post_cpu(stage: Stage) -> list[Result]:
    """CPU of one POST without Kafka: the open door, a key, a token, and a key with rates, in turn with bare ASGI."""
    spent: dict[str, list[float]] = {way: [] for way in WAYS}
    for run in range(stage.runs):
        for way in WAYS:
            found = stage.work("bench.post_cpu_process", Way(way), Spent)
            spent[way].append(found.microseconds)
        figures = ", ".join(f"{way} {rounds[-1]:.1f}" for way, rounds in spent.items())
        stage.say(f"CPU of a POST, run {run + 1}/{stage.runs}: {figures} us")
    return [
        compared("post_cpu_open", "us", spent["open"], BARE, spent["bare"]),
        compared("post_cpu_limits", "us", spent["limits"], BARE, spent["bare"]),
        *(absolute(f"post_cpu_door_{way}", "us", more(spent, way), ("<=", DOOR)) for way in ("key", "token")),
    ]


def more(spent: dict[str, list[float]], way: str) -> list[float]:
    """What the door costs: the least of it over the least without, since others of the machine can only add."""
    return [min(spent[way]) - min(spent["open"])]
