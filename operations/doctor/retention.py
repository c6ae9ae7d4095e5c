"""Whether what is kept fits together: the topic's retention, the read model's, and what is still there."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg
import msgspec

from contracts.event import DEFAULT_TENANT
from contracts.topic_promises import FOR_EVER, Topic
from operations.doctor.findings import Finding, well_unless
from projector.consuming.topic_description import describe_topic
from projector.settings import ProjectorSettings

A_DAY_MS = 86_400_000
CHECK = "retention"

LINES = """
SELECT tenant_id, days FROM read.retention WHERE what = 'events' AND event_type = '' ORDER BY tenant_id
"""
# Runs come once an hour, or once a day where the operator's own scheduler makes them.
OVERDUE = """
SELECT kept.tenant_id, oldest FROM unnest($1::text[], $2::int[]) AS kept(tenant_id, days) CROSS JOIN LATERAL (
    SELECT occurred_at AS oldest FROM read.processed_events AS e
    WHERE e.tenant_id = kept.tenant_id ORDER BY e.tenant_id, e.occurred_at, e.event_id LIMIT 1) AS first
WHERE oldest < now() - (kept.days + 2) * interval '1 day'
"""


class Kept(msgspec.Struct, frozen=True):
    """How long a tenant's events are kept in the read model; `tenant_id` empty: of tenants without a line."""

    tenant_id: str
    days: int

    def __str__(self) -> str:
        whose = f"of tenant {self.tenant_id}" if self.tenant_id else "of tenants without a line (RETENTION_DAYS)"
        return f"The read model keeps events {whose} for {self.days:,} days"


async def retention_findings(settings: ProjectorSettings, connection: asyncpg.Connection) -> list[Finding]:
    """Compares the topic's retention with the read model's. Raises KafkaError and asyncpg's errors."""
    kept = [Kept(*row) for row in await connection.fetch(LINES)]
    topic = await describe_topic(settings.client_options(), settings.kafka_topic)
    days = {each.tenant_id or DEFAULT_TENANT: each.days for each in kept}  # the line of no tenant comes first
    oldest = [
        (row["tenant_id"], row["oldest"]) for row in await connection.fetch(OVERDUE, list(days), list(days.values()))
    ]
    found = [*shorter_topic(topic, kept), *not_declared(settings, kept), *overdue(oldest)]
    says = f"{'; '.join(map(str, kept))}. What is older is gone." if kept else "Events are kept for ever."
    return well_unless(CHECK, found, says)


def shorter_topic(topic: Topic, kept: Sequence[Kept]) -> list[Finding]:
    """The topic keeps events as long as the read model: a rebuild brings back what the topic has, and no more."""
    value = topic.configs.get("retention.ms", FOR_EVER)
    if value == FOR_EVER or not value.isdigit():
        return []
    days = int(value) / A_DAY_MS
    remedy = (
        f"Let the topic keep them longer (retention.ms={FOR_EVER} is for ever), keep an archive and rebuild from that, "
        f"or keep events for at most {int(days):,} days."
    )
    return [
        Finding(CHECK, "warning", f"{each}, and the topic for {days:.1f}: a rebuild loses the rest.", remedy)
        for each in kept
        if each.days > days
    ]


def not_declared(settings: ProjectorSettings, kept: Sequence[Kept]) -> list[Finding]:
    """The projectors have declared what this environment says."""
    declared = next((each.days for each in kept if not each.tenant_id), None)
    if settings.retention_days is None or settings.retention_days == declared:
        return []
    says = f"RETENTION_DAYS is {settings.retention_days:,} here, and the projectors have declared {declared or 'none'}."
    return [Finding(CHECK, "warning", says, "Give every projector the same, and restart them.")]


def overdue(oldest: Sequence[tuple[str, datetime]]) -> list[Finding]:
    """Nothing is left that is too old. `oldest`: tenants with the time of an event that is."""
    remedy = "See the projectors' log for retention_failed, or run `footfall privacy retention run` once a day."
    return [
        Finding(CHECK, "warning", f"Tenant {tenant} has an event of {moment:%Y-%m-%d}, which is too old.", remedy)
        for tenant, moment in oldest
    ]
