"""`python -m bench` (or `make bench`): runs the benchmarks, prints a table, exits 1 if a goal is missed."""

import sys
import traceback
from collections.abc import Callable

import rich_click as click
from rich.console import Console
from rich.markup import escape

from bench import report
from bench.commands import batches, door, greedy, overload, peer, post, post_cpu, sealed, traces, wire_formats
from bench.projecting import burst, drain, drain_peers, failover, plan_points, projectors_scale, rebalance, visible
from bench.reads import (
    console,
    console_pages,
    growth,
    hot_reads,
    live,
    million,
    noisy_tenant,
    read,
    retention,
    time_partitions,
)
from bench.result import Result
from bench.stage import Stage, StageError, stage
from footfall.local.embedded import StackError

PLAIN_WIDTH = 150  # columns of the table if the output is not a terminal

BENCHMARKS: dict[str, Callable[[Stage], list[Result]]] = {
    "load_generator_limit": post.generator_limit,
    "post_64_connections": post.throughput,
    "post_256_connections": post.throughput_256,
    "post_1_connection_p50": post.latency,
    "post_cpu": post_cpu.post_cpu,
    "post_two_workers": peer.peer,
    "door": door.door,
    "batch_gzip": batches.batches,
    "overload_goodput": overload.overload,
    "greedy_clients": greedy.greedy,
    "noisy_tenant": noisy_tenant.noisy_tenant,
    "projector_drain": drain.drain,
    "drain_peers": drain_peers.drain_peers,
    "projectors_scale": projectors_scale.projectors_scale,
    "burst": burst.burst,
    "plan_points": plan_points.plan_points,
    "rebalance": rebalance.rebalance,
    "failover": failover.failover,
    "sealed": sealed.sealed,
    "wire_formats": wire_formats.wire_formats,
    "visible_after_201": visible.visible,
    "a_million_events": million.million,
    "read": read.read,
    "hot_reads": hot_reads.hot_reads,
    "time_partitions": time_partitions.time_partitions,
    "growth": growth.growth,
    "retention": retention.retention,
    "streams_1000": live.streams,
    "fresh_read": live.fresh_reads,
    "console_64_viewers": console.console,
    "console_pages": console_pages.console_pages,
    "traces": traces.traces,
}

ONLY_NAMED = ("growth", "retention", "failover")  # half an hour and 25 GB of disk; four brokers for ten minutes


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(list(BENCHMARKS)),
    metavar="NAME",
    help="Run only this benchmark; may be repeated.",
)
@click.option(
    "--runs", default=3, show_default=True, type=click.IntRange(1, 20), help="Runs of which each figure is the median."
)
@click.option(
    "--events",
    multiple=True,
    type=click.IntRange(10_000, 100_000_000),
    help="Stored events of the benchmarks `growth` and `retention`; may be repeated.",
)
@click.option("--list", "list_only", is_flag=True, help="List the benchmarks and what each measures.")
def main(only: tuple[str, ...], runs: int, events: tuple[int, ...], list_only: bool) -> None:
    """Measure each performance goal beside the bare work that it is compared with.

    It starts its own Kafka and PostgreSQL. `growth` and `retention`, which need half an hour and 25 GB, and
    `failover`, which needs four brokers, run only if they are named. Progress goes to standard error,
    the figures to bench/results/latest.json.

    \b
    Exit codes:
      0  every goal is met
      1  a goal is missed
      2  a benchmark ended with an error, and the others were measured all the same; or the servers did not start
    Examples:
      python -m bench --list
      python -m bench --only post_64_connections --only read --runs 1
      python -m bench --only growth --events 100000 --events 400000
    """
    if list_only:
        for name, benchmark in BENCHMARKS.items():
            click.echo(f"{name:<24} {benchmark.__doc__}")
        return
    results, failed = measure(only or tuple(name for name in BENCHMARKS if name not in ONLY_NAMED), runs, events)
    report.write(results)
    report.show(results, Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH))
    sys.exit(2 if failed else 1 if report.missed(results) else 0)


def measure(names: tuple[str, ...], runs: int, sizes: tuple[int, ...] = ()) -> tuple[list[Result], list[str]]:
    """Runs the benchmarks one after another on the same servers. Returns the rows, and which ended with an error."""
    console = Console(stderr=True)
    results: list[Result] = []
    failed: list[str] = []
    try:
        with stage(runs, console, sizes) as at:
            post.warm_up(at)
            for number, name in enumerate(names, 1):
                at.say(f"[bold]{name}[/bold] ({number} of {len(names)})")
                try:
                    results += BENCHMARKS[name](at)
                except Exception as error:  # noqa: BLE001 - half an hour of other figures is not lost for it
                    failed.append(name)
                    console.print(f"[bold red]{name}:[/] {told(error)}", highlight=False)
    except Exception as error:  # noqa: BLE001 - Python would exit with 1, which says that a goal is missed
        console.print(f"[bold red]bench:[/] {told(error)}", highlight=False)
        sys.exit(2)
    return results, failed


def told(error: Exception) -> str:
    """What went wrong: a sentence of ours, or where the program failed."""
    is_ours = isinstance(error, StageError | StackError)
    return escape(str(error) if is_ours else "".join(traceback.format_exception(error)))


if __name__ == "__main__":
    main()
