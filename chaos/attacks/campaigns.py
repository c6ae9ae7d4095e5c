"""The campaigns: which faults are injected, how often, and which state the checker waits for."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from chaos.attacks.nemesis import FAULTS, PROJECTORS, ROLES, STALLS, VICTIMS, Step, Tally, inflict, schedule
from chaos.attacks.teardown import GENERATION, Verdict, begin, finish
from chaos.planted.mutants import MUTANTS, Mutant
from chaos.planted.triggers import NEED_TWO
from chaos.stand.cluster import Cluster
from chaos.stand.servers import Servers

STANDSTILL = {False: 90.0, True: 4.0}  # seconds without progress; short for a mutant, which may never reach the end
SHORT_MUTANTS = (
    "no unique constraint",
    "last record of a batch dropped",
    "new event id on retry",
    "who follows a failure is told success",
)
KILLS, KILL_EVENTS = 100, 200_000
COMMITS, ZOMBIES = 100, 30
STEPS_OF_A_ROUND = 40


class Round(msgspec.Struct):
    """The faults injected into one cluster, and the verdict. `passed`: no findings, or, for a mutant, caught."""

    name: str
    seed: int
    seconds: float
    done: dict[str, int]
    not_run: dict[str, int]
    verdict: Verdict
    passed: bool


Attack = Callable[[Cluster, Tally], None]
NamedMutant = tuple[str, Mutant]


class Campaign:
    """The servers, directory, seed and console of a run; starts one cluster for each round."""

    def __init__(
        self,
        servers: Servers,
        directory: Path,
        console: Console,
        seed: int,
        rounds: int,
        mutants: tuple[str, ...] = tuple(MUTANTS),
    ) -> None:
        self.servers, self.directory, self.seed, self.rounds, self.chosen = servers, directory, seed, rounds, mutants
        self._console = console
        self._clusters = 0

    def say(self, text: str) -> None:
        """Prints one line of progress."""
        self._console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim] {text}", highlight=False)

    def round(
        self, name: str, attack: Attack, *, mutant: NamedMutant | None = None, per_second: float = 400.0
    ) -> Round:
        """Starts a cluster, runs `attack` on it, repairs it, and checks every event."""
        return self.rounds_of(name, attack, mutant=mutant, per_second=per_second)[0]

    def rounds_of(
        self,
        name: str,
        attack: Attack,
        *,
        mutant: NamedMutant | None = None,
        per_second: float = 400.0,
        generations: Sequence[str] = (GENERATION,),
    ) -> list[Round]:
        """Does the same as `round` and checks several generations of the one cluster.

        Args:
            name: Title of the first round.
            attack: Called with the cluster and the tally.
            mutant: The planted fault, if any.
            per_second: Commands a second.
            generations: The generations to check.

        Returns:
            A round for each generation.
        """
        started, tally = time.monotonic(), Tally()
        cluster = self._cluster(mutant, per_second)
        try:
            begin(cluster)
            attack(cluster, tally)
            verdicts = finish(cluster, standstill=STANDSTILL[mutant is not None], generations=generations)
        finally:
            cluster.close()
        seconds, done, not_run = round(time.monotonic() - started, 1), dict(tally.done), dict(tally.not_run)
        names = [name, *(f"{name}: {generation}" for generation in generations[1:])]
        return [
            Round(title, self.seed, seconds, done, not_run, found, _passed(found, mutant))
            for title, found in zip(names, verdicts, strict=True)
        ]

    def _cluster(self, mutant: NamedMutant | None, per_second: float) -> Cluster:
        self._clusters += 1
        cluster = Cluster(
            self.servers,
            self.directory,
            f"chaos-{self._clusters}",
            seed=self.seed,
            program=_program(mutant),
            per_second=per_second,
            schema=mutant[1].schema if mutant else "",
        )
        if mutant:
            cluster.roles["query"].wanted = False
            cluster.roles["projector-2"].wanted = mutant[1].trigger in NEED_TWO
        return cluster

    def steps(self, cluster: Cluster, tally: Tally, steps: list[Step], *, more: int = 100) -> None:
        """Runs the steps of a schedule and prints each one."""
        for step in steps:
            inflict(cluster, step, tally, more=more)
            self.say(f"{step}; {cluster.counter.acknowledged:,} acknowledged")

    def mutants(self, names: tuple[str, ...]) -> list[Round]:
        """Runs each of these mutants in a separate cluster."""
        rounds = []
        for name in names:
            mutant = MUTANTS[name]
            found = self.round(f"mutant: {name}", _triggered_by(mutant), mutant=(name, mutant))
            kinds = ", ".join(f"{kind} {count}" for kind, count in found.verdict.findings.items())
            self.say(f"mutant: {name}: {'caught' if found.passed else '[red]NOT CAUGHT[/red]'} ({kinds or 'nothing'})")
            rounds.append(found)
        return rounds


def _triggered_by(mutant: Mutant) -> Attack:
    return lambda cluster, _: mutant.trigger(cluster)


def _passed(found: Verdict, mutant: NamedMutant | None) -> bool:
    return bool(found.findings.keys() & set(mutant[1].expected)) if mutant else not found.findings


def _program(mutant: NamedMutant | None) -> Callable[[str], list[str]]:
    if mutant is None:
        return lambda _: ["footfall"]
    name, found = mutant
    return lambda role: ["chaos.planted.mutant", name] if role.startswith(found.role) else ["footfall"]


def short(campaign: Campaign) -> list[Round]:
    """Every fault once and a kill of each role, then four mutants; further rounds with ROUNDS=."""
    rounds = []
    for number in range(campaign.rounds):
        everything = dict.fromkeys(FAULTS, 1)
        count = len(everything) - 1 + len(ROLES) if number == 0 else STEPS_OF_A_ROUND
        steps = schedule(campaign.seed + number, SHORT if number == 0 else everything, count)
        rounds.append(campaign.round(f"round {number + 1}", lambda c, t, s=steps: campaign.steps(c, t, s)))  # type: ignore[misc]
    return rounds + campaign.mutants(SHORT_MUTANTS)


SHORT: Mapping[str, int] = dict.fromkeys(FAULTS, 1)


def kills(campaign: Campaign) -> list[Round]:
    """100 kills over all roles, with 200,000 acknowledged events."""
    steps = schedule(campaign.seed, {"kill": 1}, KILLS)

    def attack(cluster: Cluster, tally: Tally) -> None:
        campaign.steps(cluster, tally, steps, more=KILL_EVENTS // KILLS // 4)
        cluster.wait_until(lambda: cluster.counter.read() >= KILL_EVENTS, 240.0, f"{KILL_EVENTS:,} acknowledged events")

    return [campaign.round("100 kills over all roles", attack, per_second=1_500.0)]


def commits(campaign: Campaign) -> list[Round]:
    """100 batches whose COMMIT succeeded, but whose answer was dropped."""
    steps = [Step(n, "swallow_commit", PROJECTORS[n % 2], 0.0) for n in range(1, 4 * COMMITS)]

    def attack(cluster: Cluster, tally: Tally) -> None:
        for step in steps:
            # The proxy may also drop the answer to a second try, which is fenced: it does not count as one of the 100.
            if cluster.logged("batch_fenced") >= COMMITS and tally.done["swallowed COMMIT"] >= COMMITS:
                return
            inflict(cluster, step, tally, more=50)
            if step.number % 10 == 0:
                campaign.say(
                    f"{tally.done['swallowed COMMIT']} swallowed, {cluster.logged('batch_fenced')} batches fenced"
                )

    return [campaign.round("100 swallowed COMMIT answers", attack, per_second=900.0)]


def zombies(campaign: Campaign) -> list[Round]:
    """30 projectors frozen for longer than their session timeout, then resumed."""
    steps = schedule(campaign.seed, {"zombie": 1}, ZOMBIES)
    return [
        campaign.round(
            "30 zombie pauses", lambda cluster, tally: campaign.steps(cluster, tally, steps), per_second=900.0
        )
    ]


def stalls(campaign: Campaign) -> list[Round]:
    """Broker and command side frozen for less and for more than each timeout."""
    pairs = [(role, seconds) for seconds in STALLS for role in VICTIMS["stall"]]
    steps = [Step(n, "stall", role, seconds) for n, (role, seconds) in enumerate(pairs, 1)]
    return [campaign.round("stalls", lambda cluster, tally: campaign.steps(cluster, tally, steps), per_second=900.0)]


def all_mutants(campaign: Campaign) -> list[Round]:
    """Every planted fault: each must be caught."""
    return campaign.mutants(campaign.chosen)
