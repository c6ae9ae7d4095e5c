"""Builds a generation while projectors, broker and PostgreSQL are killed, then verifies and promotes it."""

import subprocess
import sys

import asyncpg

from chaos.attacks.campaigns import Campaign, Round
from chaos.attacks.nemesis import Tally, inflict, mend, schedule
from chaos.checking import reading
from chaos.stand.cluster import ChaosError, Cluster

HISTORY = 60_000  # events in the log when the rebuild begins
HISTORY_WITHIN = 240.0  # seconds
KILLS = 20
MAX_RATE = 400  # events a second, so that the build outlives the kills
BEGUN_WITHIN, BUILT_WITHIN = 60.0, 180.0  # seconds
COMMAND_WITHIN = 120.0  # seconds for one `footfall rebuild ..`
TRIES = 5  # of a command that meets a server which is just starting
NEW = "read_g2"


def rebuild(campaign: Campaign) -> list[Round]:
    """20 kills during one rebuild, which is then verified and promoted."""

    def attack(cluster: Cluster, tally: Tally) -> None:
        cluster.wait_until(
            lambda: cluster.counter.read() >= HISTORY, HISTORY_WITHIN, f"{HISTORY:,} acknowledged events"
        )
        cluster.per_second = 150.0
        cluster.terminate("load")
        _footfall(cluster, "rebuild", "start", "--max-rate", str(MAX_RATE))
        cluster.wait_until(lambda: _passed(cluster, NEW) > 0, BEGUN_WITHIN, "the build to begin")
        for step in schedule(campaign.seed, {"kill": 1}, KILLS):
            inflict(cluster, step, tally, more=20)
            passed, whole = _passed(cluster, NEW), cluster.counter.acknowledged
            campaign.say(f"{step}; {passed:,} of {whole:,} events rebuilt")
            tally.done["kills while it was being built"] += passed < HISTORY  # -1: PostgreSQL itself is down
        mend(cluster)
        _footfall(cluster, "rebuild", "resume", "--max-rate", "0")
        cluster.wait_until(
            lambda: _passed(cluster, NEW) >= HISTORY, BUILT_WITHIN, "the build to reach the history's end"
        )
        _footfall(cluster, "rebuild", "verify")
        _footfall(cluster, "rebuild", "promote")
        tally.done["verified and promoted"] += 1
        campaign.say("verified and promoted")

    return campaign.rounds_of("20 kills in one rebuild", attack, per_second=2_500.0, generations=(NEW, "read_g1"))


def _footfall(cluster: Cluster, *arguments: str) -> str:
    """Runs `footfall ..` as an operator would, and tries again if it fails: a server may have just restarted."""
    environment = {**cluster.environment(), "DATABASE_URL": cluster.servers.url("owner", cluster.database)}
    said = ""
    for _ in range(TRIES):
        try:
            done = subprocess.run(
                [sys.executable, "-m", "footfall", *arguments],
                env=environment,
                capture_output=True,
                text=True,
                timeout=COMMAND_WITHIN,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ChaosError(f"footfall {' '.join(arguments)} took longer than {COMMAND_WITHIN:g} s") from None
        said = done.stdout + done.stderr
        if done.returncode == 0:
            return said
        cluster.wait(2.0)
    raise ChaosError(f"footfall {' '.join(arguments)} failed: {said[-1500:]}")


def _passed(cluster: Cluster, generation: str) -> int:
    """Returns the events before the generation's checkpoints; -1 while PostgreSQL does not answer."""
    sql = f"SELECT coalesce(sum(next_offset), 0)::bigint FROM {generation}.checkpoints"
    try:
        return int(str(reading.value(cluster.servers.url("owner", cluster.database), sql)))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return -1
