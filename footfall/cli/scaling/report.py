"""Prints what a rate of events needs."""

import msgspec
import rich_click as click

from operations.scaling.model import COPIES, USABLE, Load, Plan
from operations.scaling.model import plan as made_plan

UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def show(load: Load, *, as_json: bool) -> None:
    """Computes the plan and prints it."""
    found = made_plan(load)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    click.echo(f"{load.rate:,.0f} events/s, {found.peak_rate:,.0f} at the peak. Cores are {USABLE:.0%} busy then.\n")
    for what, text in _lines(found):
        click.echo(f"{what:<14}{text}")
    click.echo("")
    for sentence in found.advice:
        click.echo(sentence)


def _lines(found: Plan) -> list[tuple[str, str]]:
    servers = "1 server" if found.postgresql_servers == 1 else f"{found.postgresql_servers} servers"
    return [
        ("command side", f"{found.command_sides} processes, {found.command_cores:,.2f} cores"),
        ("topic", f"{found.partitions} partitions, {COPIES} copies"),
        ("Kafka", f"{found.brokers} brokers, {found.broker_cores:,.2f} cores, {size(found.log_bytes)} on all disks"),
        ("projectors", f"{found.projectors} processes, {found.projector_cores:,.2f} cores"),
        ("PostgreSQL", f"{servers}, {found.postgresql_cores:,.2f} cores for writing, {size(found.row_bytes)} of rows"),
    ]


def size(count: float) -> str:
    """Bytes in the largest unit that gives at least one."""
    for unit in UNITS[:-1]:
        if count < 1000:
            return f"{count:,.0f} {unit}"
        count /= 1000
    return f"{count:,.0f} {UNITS[-1]}"
