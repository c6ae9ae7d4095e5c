"""Many commands in one request: split the body, validate each item, publish what is valid at once."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from command_side.batch_items import MAX_ITEMS, items_of, may_be_judged_at_once, slices, validated
from command_side.idempotency import Claim, Follow, KeyConflict, Keyed, Lead, RecentKeys, Settled
from command_side.publishing.event_log import NOT_TAKEN, EventLog, NotTaken, Outcome, Submitted
from command_side.submission import space_of
from command_side.tracing import NotedLog, carry
from contracts.record import TOPIC, EventRecord, new_record
from contracts.validation.commands import CommandRules
from contracts.validation.fast_commands import FastBatches
from contracts.validation.rules import Problems
from telemetry.traces.request_trace import RequestTrace
from web.policies.principal import Principal

T = TypeVar("T")


class NotPublished(msgspec.Struct, frozen=True):
    """A valid item of an atomic batch that has invalid ones."""


ItemResult = Submitted | Problems | KeyConflict | NotPublished

Prepared = EventRecord | Keyed | Problems  # an item, before any key is claimed
Claimed = EventRecord | Claim | Problems | KeyConflict  # an item, before anything is published


class Turns:
    """Work on many items, in slices: one slice at a time, and after each as much time for everybody else."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def map(self, work: Callable[[bytes], T], items: Sequence[bytes]) -> list[T]:
        """What `work` makes of each item, in their order."""
        parts, loop = list(slices(items)), asyncio.get_running_loop()
        if len(parts) == 1:
            return list(map(work, items))
        done: list[T] = []
        for part in parts:
            async with self._turn:
                began = loop.time()
                done += map(work, part)
                await asyncio.sleep(loop.time() - began)
        return done


class Batches:
    """Records batches of activities in a log."""

    def __init__(
        self,
        log: EventLog,
        keys: RecentKeys,
        rules: CommandRules,
        public_log: EventLog | None = None,
        topic: str = TOPIC,
    ) -> None:
        """`public_log`: what counts what public keys record; None: `log` does. `topic`: of the log, for traces."""
        self._log = log
        self._public_log = public_log or log
        self._topic = topic
        self._keys = keys
        self._rules = rules
        self._fast = FastBatches(rules)
        self._turns = Turns()

    async def handle(
        self,
        principal: Principal,
        body: bytes,
        request_id: str,
        *,
        lines: bool,
        atomic: bool,
        trace: RequestTrace | None = None,
    ) -> Sequence[ItemResult] | Problems | NotTaken:
        """What became of each item of an array or of lines, in order; or why there are none.

        The events belong to the tenant of `principal`. With `atomic` none is published unless all are valid. NotTaken:
        the log takes nothing at all. `trace`: the records carry it.
        """
        records, log = None, self._log_of(principal, trace)
        if may_be_judged_at_once(body, lines=lines):
            records = self._fast.new_records(body, request_id, principal.tenant_id, lines=lines, at_most=MAX_ITEMS)
        if records is not None:
            if trace is not None:
                carry(trace, records)
            outcomes = await log.publish_all(records)
            return outcomes if isinstance(outcomes, NOT_TAKEN) else list(map(Submitted, records, outcomes))
        items = items_of(body, lines=lines)
        if isinstance(items, Problems):
            return items
        prepared = await self._turns.map(partial(self._prepared, principal, request_id, trace), items)
        return await self._claim_and_publish(prepared, log, atomic=atomic)

    def _log_of(self, principal: Principal, trace: RequestTrace | None) -> EventLog:
        log = self._public_log if principal.is_public() else self._log
        return log if trace is None else NotedLog(log, trace, self._topic)

    def _prepared(self, principal: Principal, request_id: str, trace: RequestTrace | None, item: bytes) -> Prepared:
        """All of an item's work that needs nobody else."""
        prepared = self._new(principal, request_id, item)
        if trace is not None and not isinstance(prepared, Problems):
            carry(trace, [prepared.record if isinstance(prepared, Keyed) else prepared])
        return prepared

    def _new(self, principal: Principal, request_id: str, item: bytes) -> Prepared:
        checked = validated(item, self._rules)
        if isinstance(checked, Problems):
            return checked
        if checked.key is not None:
            return self._keys.keyed(space_of(principal), checked.key, checked.command, request_id)
        return new_record(checked.command, request_id, principal.tenant_id)

    async def _claim_and_publish(
        self, prepared: Sequence[Prepared], log: EventLog, *, atomic: bool
    ) -> Sequence[ItemResult] | NotTaken:
        if atomic and any(isinstance(item, Problems) for item in prepared):
            return [item if isinstance(item, Problems) else NotPublished() for item in prepared]
        claims: list[Claimed] = [self._keys.claim(item) if isinstance(item, Keyed) else item for item in prepared]
        if atomic and any(isinstance(claim, KeyConflict) for claim in claims):
            for item, claim in zip(prepared, claims, strict=True):
                if isinstance(item, Keyed) and isinstance(claim, Lead):
                    self._keys.release(item, claim)
            return [claim if isinstance(claim, KeyConflict) else NotPublished() for claim in claims]
        return await self._publish(claims, log)

    async def _publish(self, claims: Sequence[Claimed], log: EventLog) -> Sequence[ItemResult] | NotTaken:
        leads = [claim for claim in claims if isinstance(claim, Lead)]
        ours = [
            claim.record if isinstance(claim, Lead) else claim
            for claim in claims
            if isinstance(claim, EventRecord | Lead)
        ]
        try:
            outcomes = await log.publish_all(ours)
            coming = iter([outcomes] * len(ours) if isinstance(outcomes, NOT_TAKEN) else outcomes)
            results = [_ended(claim, coming) for claim in claims]
        finally:  # cancelled, perhaps: then the records may be on their way
            for lead in leads:
                lead.leave()
        if isinstance(outcomes, NOT_TAKEN) and not any(_stands_otherwise(one, outcomes) for one in results):
            return outcomes
        told = [Submitted(one.record, await one.outcome()) if isinstance(one, Follow) else one for one in results]
        return list(map(_as_it_stands, claims, told))


def _stands_otherwise(result: ItemResult | Follow, outcome: NotTaken) -> bool:
    """Whether an item has another outcome than that the log took nothing, or may have one."""
    return isinstance(result, Follow) or (isinstance(result, Submitted) and result.outcome != outcome)


def _as_it_stands(claim: Claimed, result: ItemResult) -> ItemResult:
    """An item's result when the batch is answered, for which it waited: a repeat may have been published meanwhile."""
    if isinstance(claim, Lead | Follow) and isinstance(result, Submitted):
        return Submitted(result.record, claim.stands(result.outcome))
    return result


def _ended(claim: Claimed, coming: Iterator[Outcome]) -> ItemResult | Follow:
    """What became of an item, the next of `coming` if this batch published it; who follows is yet to be told."""
    match claim:
        case EventRecord():
            return Submitted(claim, next(coming))
        case Lead():
            return Submitted(claim.record, claim.settle(next(coming)))
        case Settled():
            return Submitted(claim.record, claim.outcome)
        case _:
            return claim
