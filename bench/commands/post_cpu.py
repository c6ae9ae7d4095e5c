"""Measures the CPU that a POST costs the command side: open, with a key, with a token, with rates, beside bare ASGI."""

from bench.commands.post_cpu_process import Spent, Way
from bench.result import Result, compared
from bench.stage import Stage

WAYS = ("bare", "open", "key", "token", "limits")
BARE = "plain uvicorn with a bare ASGI app"
DOOR = 1.07  # of the open door: 2 of the 30 microseconds that a POST costs on the machine where this was set


def post_cpu(stage: Stage) -> list[Result]:
    """CPU of one POST without Kafka: the open door, a key, a token, and a key with rates, in turn with bare ASGI."""
    spent: dict[str, list[float]] = {way: [] for way in WAYS}
    for run in range(stage.runs):
        for way in WAYS:
            found = stage.work("bench.commands.post_cpu_process", Way(way), Spent)
            spent[way].append(found.microseconds)
        figures = ", ".join(f"{way} {rounds[-1]:.1f}" for way, rounds in spent.items())
        stage.say(f"CPU of a POST, run {run + 1}/{stage.runs}: {figures} us")
    return [
        compared("post_cpu_open", "us", spent["open"], BARE, spent["bare"]),
        compared("post_cpu_limits", "us", spent["limits"], BARE, spent["bare"]),
        *(
            compared(f"post_cpu_door_{way}", "us", least(spent[way]), "open", least(spent["open"]), ("<=", DOOR))
            for way in ("key", "token")
        ),
    ]


def least(found: list[float]) -> list[float]:
    """The least that was measured, since others on the machine can only add."""
    return [min(found)]
