"""Prints the demo's report."""

from rich.console import Console
from rich.table import Table

from footfall.local.demo.account import Account, DemoOptions

SHOWN_IDS = 10


def percentile(values: list[float], share: float) -> float:
    """Returns the value below which `share` (0 to 1) of the values lie; NaN if there are no values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def milliseconds(values: list[float]) -> str:
    return f"p50 {percentile(values, 0.5) * 1000:.1f} ms   p99 {percentile(values, 0.99) * 1000:.1f} ms"


def report(account: Account, options: DemoOptions, console: Console) -> None:
    """Prints counts, rates, latencies, three rows, and the verdict."""
    console.print(table_of(account, options))
    console.print("Three rows of GET /events/processed:", style="bold")
    for row in account.rows:
        console.print("  " + row.decode(), soft_wrap=True, highlight=False)
    console.print(verdict(account))


def table_of(account: Account, options: DemoOptions) -> Table:
    table = Table(title="A day of traffic", title_justify="left", show_header=False)
    accepted = len(account.accepted)
    posted = account.accepted_under_load / account.posting_took
    rows = [
        ("sent over HTTP", f"{account.sent:,}"),
        ("in batches", f"{account.batched:,} events in {account.batches:,} requests; the others one by one"),
        ("accepted (201)", f"{accepted:,}"),
        ("rejected (400)", f"{account.rejected:,} of {options.invalid:,} invalid bodies"),
        ("projected", f"{account.projected:,}"),
        ("duplicates skipped", f"{account.duplicates:,} of {options.duplicates:,} produced again"),
        ("malformed skipped", f"{account.malformed:,} of {options.broken:,} broken records"),
        (
            "posting",
            f"{posted:,.0f} events/s over {options.connections} connections",
        ),
        ("projecting", f"{account.projected_under_load / account.projecting_took:,.0f} events/s, as fast as they came"),
        ("POST to 201", milliseconds(account.post_seconds) + "   beside the batches"),
        ("201 to visible", milliseconds(account.visible_seconds) + f"   ({len(account.visible_seconds)} samples)"),
        ("POST to 201", milliseconds(account.post_at_rest) + "   with nothing beside it"),
        ("201 to visible", milliseconds(account.visible_at_rest) + f"   ({len(account.visible_at_rest)} samples)"),
    ]
    for name, value in rows:
        table.add_row(name, value)
    return table


def verdict(account: Account) -> str:
    """Returns the verdict in one sentence, followed by the differences if there are any."""
    if account.exact():
        return f"[green]accepted = projected: {account.projected:,} events, compared id by id.[/green]"
    lines = [f"[red]accepted {len(account.accepted):,} but projected {account.projected:,}.[/red]"]
    for what, ids in (("missing", account.missing), ("not accepted by us", account.phantoms)):
        if ids:
            lines.append(f"{what}: {len(ids):,}, such as {', '.join(ids[:SHOWN_IDS])}")
    lines += [f"unexpected answer: {surprise}" for surprise in account.surprises[:SHOWN_IDS]]
    return "\n".join(lines)
