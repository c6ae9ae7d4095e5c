"""Redriving and discarding dead letters, and what either would do."""

from collections import Counter

import msgspec

from console.actions.jobs import Report, Result, Work
from console.looking.watch import MakeKeys
from contracts.types import Catalogue
from operations.dead_letters import discard_letters, redrive_letters
from operations.settings import DlqSettings
from projector.dead_letters.letter_filter import LetterFilter
from projector.dead_letters.redrive import LetterOutcome, Options

LIMIT = 10_000  # letters of one run
WORKS = {"redrive": redrive_letters, "discard": discard_letters}
MEANING = {
    "stored": "applied now; their events become visible",
    "duplicate": "applied before; nothing changes",
    "poison": "still cannot be applied; they stay",
    "newer_version": "are of a newer version; they stay",
    "behind": "wait for a letter that fails; they stay",
    "blocked": "wait for a letter that is not chosen; they stay",
    "discarded": "given up for good",
}


class Predicted(msgspec.Struct, frozen=True):
    """What a run would do. `examples`: letters that would stay, with the reason."""

    letters: int
    outcomes: list[tuple[str, int, str]]
    examples: list[LetterOutcome]
    is_cut: bool


class Means(msgspec.Struct, frozen=True):
    """What a run needs: the database, the event types, and the key store, connected for each run."""

    settings: DlqSettings
    catalogue: Catalogue
    keys: MakeKeys


async def predicted(means: Means, what: str, chosen: LetterFilter, actor: str) -> Predicted:
    """Does it in a transaction that is rolled back, and tells what came of it. Raises what `WORKS` raise."""
    options = Options(actor=actor, limit=LIMIT, dry_run=True)
    found = await WORKS[what](means.settings, means.catalogue, chosen, options, lambda _: None, means.keys())
    staying = [each for each in found if each.reason][:5]
    return Predicted(len(found), told(found), staying, len(found) == LIMIT)


def work_of(means: Means, what: str, chosen: LetterFilter, actor: str) -> Work:
    """Processes them again, or gives them up; `what`: one of `WORKS`."""

    async def work(report: Report) -> Result:
        done = 0

        def progress(letters: int) -> None:
            nonlocal done
            done += letters
            report(f"{done:,} letters are done.")

        options = Options(actor=actor, limit=LIMIT)
        found = await WORKS[what](means.settings, means.catalogue, chosen, options, progress, means.keys())
        return Result(
            f"{len(found):,} {'letter was' if len(found) == 1 else 'letters were'} looked at.",
            rows=[(f"{number:,} {name}", why) for name, number, why in told(found)],
        )

    return work


def told(found: list[LetterOutcome]) -> list[tuple[str, int, str]]:
    """Each outcome with its number and its meaning, the most frequent first."""
    return [(name, number, MEANING[name]) for name, number in Counter(each.outcome for each in found).most_common()]
