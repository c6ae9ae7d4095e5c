"""What operators do with generations and partitions, each in one sentence before it is done."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from console.actions.jobs import Report, Result, Work
from operations.audit.deed import actor_name
from operations.partitions import restart_partition, stop_partition
from operations.rebuild import lifecycle, promote, verify
from operations.rebuild.operator import Operator, operating
from operations.refusal import RefusedError
from operations.settings import RebuildSettings

SERVES = "serves"  # the form's field with the generation that served when the page asked
HOLD = 3600.0  # seconds that a partition is stopped for
SHOWN = 20  # keys that differ

Do = Callable[[Operator, Report, Mapping[str, str]], Awaitable[Result]]


class Action(msgspec.Struct, frozen=True):
    """One thing to do. `will`: what it does, as a sentence. `is_grave`: it cannot be taken back by a click."""

    name: str
    will: str
    do: Do
    is_grave: bool = False


async def _start(operator: Operator, report: Report, given: Mapping[str, str]) -> Result:
    rate = given.get("rate", "")
    found = await lifecycle.start(operator, int(rate) if rate.isdigit() and int(rate) else None)
    return Result(f"{found.name} is being built.")


async def _resume(operator: Operator, report: Report, given: Mapping[str, str]) -> Result:
    return Result(f"{(await lifecycle.resume(operator)).name} is being built.")


def _named(work: Callable[[Operator], Awaitable[Any]], says: str) -> Do:
    async def do(operator: Operator, report: Report, given: Mapping[str, str]) -> Result:
        return Result(f"{(await work(operator)).name} {says}")

    return do


async def _verify(operator: Operator, report: Report, given: Mapping[str, str]) -> Result:
    found = await verify.verify(operator, report=report)
    rows = [
        (each.table, f"{each.rows_old:,} and {each.rows_new:,} rows, {'equal' if each.equal else 'different'}")
        for each in found.tables
    ]
    keys = [
        (each.table, f"{key.how} {key.key}")
        for each in found.tables
        for bucket in each.differing
        for key in bucket.keys
    ]
    says = (
        f"{found.new} is verified: it equals {found.old}."
        if found.equal
        else f"{found.new} is NOT equal to {found.old}."
    )
    return Result(says, found.equal, [*rows, *keys[:SHOWN]])


def _switched(work: Callable[[Operator], Awaitable[Any]]) -> Do:
    async def do(operator: Operator, report: Report, given: Mapping[str, str]) -> Result:
        await refuse_unless_serving(operator, given.get(SERVES, ""))
        found = await work(operator)
        return Result(f"Queries see {found.new} now. {found.old} is standby.")

    return do


async def refuse_unless_serving(operator: Operator, name: str) -> None:
    """Refuses a switch that somebody else has made since the page asked: a second one would take it back.

    `name`: of the generation that served then; empty if nobody knew. Raises RefusedError.
    """
    serving = (await operator.active()).name
    if name and name != serving:
        raise RefusedError(f"Queries see {serving}, and saw {name} when this was asked. Look again at what there is.")


async def _stop(operator: Operator, report: Report, given: Mapping[str, str]) -> Result:
    return Result(f"Stopped: {await stop_partition(operator, int(given.get('partition', '')), HOLD)}.")


async def _restart(operator: Operator, report: Report, given: Mapping[str, str]) -> Result:
    return Result(f"Goes on: {await restart_partition(operator, int(given.get('partition', '')))}.")


ACTIONS = {
    "start": Action(
        "rebuild start",
        "Makes an empty generation; the projectors fill it from the log beside the one that "
        "serves. Queries notice nothing.",
        _start,
    ),
    "pause": Action("rebuild pause", "Stops the build. What is built is kept.", _named(lifecycle.pause, "is paused.")),
    "resume": Action("rebuild resume", "Continues the build where it is.", _resume),
    "verify": Action(
        "rebuild verify",
        "Compares the build, or the standby, with the generation that serves, at the same "
        "positions. That one stands still for a moment.",
        _verify,
    ),
    "promote": Action(
        "rebuild promote",
        "Lets queries see the build, in one transaction. The generation that served is kept as standby.",
        _switched(promote.promote),
    ),
    "rollback": Action(
        "rebuild rollback", "Lets queries see the standby again, in one transaction.", _switched(promote.rollback)
    ),
    "cancel": Action(
        "rebuild cancel", "Ends the build and drops its tables.", _named(lifecycle.cancel, "is dropped."), True
    ),
    "drop": Action(
        "rebuild drop",
        "Drops the standby. Afterwards there is nothing to roll back to.",
        _named(lifecycle.drop_standby, "is dropped."),
        True,
    ),
    "stop": Action(
        "partition stop",
        "Holds this partition where it is, for an hour at most. Its events are accepted, and "
        "become visible when it goes on.",
        _stop,
    ),
    "restart": Action("partition restart", "Ends a hold, and lets the owner load the position again.", _restart),
}


def work_of(action: Action, settings: RebuildSettings, actor: str, given: Mapping[str, str]) -> Work:
    """Connects as the operator, and does it."""

    async def work(report: Report) -> Result:
        async with operating(settings) as operator:
            operator.name = actor_name(actor)
            return await action.do(operator, report, given)

    return work
