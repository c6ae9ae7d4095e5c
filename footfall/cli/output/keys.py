"""Runs `footfall keys` and prints what came of it: on standard output only what a script wants to have."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec
import rich_click as click
from rich.console import Console
from rich.table import Table

from footfall.cli.failures import readable_failures
from footfall.cli.settings import operator_settings
from identity.keys.administration import KeyRefusedError, NewText, Wanted, create, revoke, rotate
from identity.keys.key_record import KeyRecord
from identity.keys.topic import RegisterTopic, WrongTopicError, ensure_topic, opened
from identity.settings import KeySettings
from operations.audit.deed import actor_name, audited, by_kafka
from web.policies.principal import AccessScope

Found = TypeVar("Found")

HIDDEN = {"digests", "version"}
_to_json = msgspec.json.Encoder(order="deterministic").encode


def print_new(wanted: Mapping[str, Any], *, as_json: bool) -> None:
    """Makes a key, and prints it."""
    scopes = [scope_named(text) for text in wanted["scopes"]]
    key = Wanted(**{**wanted, "scopes": scopes, "actor": actor_name()})
    print_text(
        with_register(lambda topic: create(topic, key), "keys create", f"{key.kind} key of tenant {key.tenant_id}"),
        as_json=as_json,
    )


def print_rotated(key_id: str, overlap: timedelta, *, as_json: bool) -> None:
    """Rotates a key, and prints its new text."""
    print_text(
        with_register(lambda topic: rotate(topic, key_id, overlap), "keys rotate", f"key {key_id}"), as_json=as_json
    )


def print_revoked(key_id: str, *, as_json: bool) -> None:
    """Revokes a key."""
    record = with_register(lambda topic: revoke(topic, key_id), "keys revoke", f"key {key_id}")
    click.echo(_to_json(shown(record)).decode() if as_json else f"Key {key_id} ({record.name}) is revoked.")


def print_all(*, as_json: bool) -> None:
    """Lists every key."""

    async def read(topic: RegisterTopic) -> list[KeyRecord]:
        return sorted((await topic.read()).records.values(), key=lambda record: record.created_at)

    records = with_register(read)
    if as_json:
        click.echo(_to_json([shown(record) for record in records]).decode())
    else:
        Console().print(table_of(records))


def with_register(work: Callable[[RegisterTopic], Awaitable[Found]], action: str = "", target: str = "") -> Found:
    """Does the work with the register's topic, which is made if it is missing. Exits 1 with a sentence.

    `action`, `target`: what the audit log has of it, before it is done; empty: nothing, because nothing is changed.
    """
    settings = operator_settings(KeySettings, "owner")

    async def run() -> Found:
        options, topic = settings.client_options(), settings.kafka_keys_topic
        await ensure_topic(options, topic, settings.kafka_replication_factor)
        async with opened(options, topic) as register:
            if not action:
                return await work(register)
            write = by_kafka(options, settings.kafka_audit_topic, settings.kafka_replication_factor)
            async with audited(write, action, actor=actor_name(), target=target, refusals=(KeyRefusedError,)) as deed:
                found = await work(register)
                deed.target = f"{target}{f': {found.record.key_id}' if isinstance(found, NewText) else ''}"
                return found

    with readable_failures(
        "The register of keys was not used", refusals=(KeyRefusedError, WrongTopicError), server="Kafka"
    ):
        return asyncio.run(run())


def scope_named(text: str) -> AccessScope:
    """The scope of that name. Fails with a usage error."""
    try:
        return AccessScope(text)
    except ValueError:
        raise click.UsageError(f"{text} is no scope: {', '.join(AccessScope)}.") from None


def print_text(made: NewText, *, as_json: bool) -> None:
    """Prints a new text of a key: alone on standard output, with what to know of it beside."""
    if as_json:
        click.echo(_to_json({**shown(made.record), "key": made.key}).decode())
        return
    record = made.record
    click.echo(
        f"Key {record.key_id} ({record.name}), of tenant {record.tenant_id}: {', '.join(sorted(record.scopes))}.",
        err=True,
    )
    click.echo("This is the only time that it is shown:", err=True)
    click.echo(made.key)


def shown(record: KeyRecord) -> dict[str, Any]:
    """A record for people: without digests, and with what it is worth now."""
    found: dict[str, Any] = msgspec.to_builtins(record)
    return {**{name: value for name, value in found.items() if name not in HIDDEN}, "state": state_of(record)}


def state_of(record: KeyRecord) -> str:
    """In one word: revoked, expired, rotating or valid."""
    now = datetime.now(UTC)
    if record.revoked_at is not None:
        return "revoked"
    if record.expires_at is not None and record.expires_at <= now:
        return "expired"
    valid = [text for text in record.digests if text.expires_at is None or text.expires_at > now]
    return "rotating" if len(valid) > 1 else "valid"


def table_of(records: list[KeyRecord]) -> Table:
    """The keys for a terminal."""
    table = Table(title=f"{len(records)} keys", title_justify="left")
    for heading in ("id", "kind", "tenant", "name", "scopes", "origins", "state", "created", "expires"):
        table.add_column(heading, overflow="fold")
    for record in records:
        table.add_row(
            record.key_id,
            record.kind,
            record.tenant_id,
            record.name,
            " ".join(sorted(record.scopes)),
            " ".join(record.origins),
            state_of(record),
            day(record.created_at),
            day(record.expires_at),
        )
    return table


def day(moment: datetime | None) -> str:
    """A date and time in UTC, or nothing."""
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"
