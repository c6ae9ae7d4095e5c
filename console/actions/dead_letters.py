"""Redriving and discarding dead letters, and what either would do."""

from collections import Counter

import msgspec

from console.actions.jobs import Report, Result, Work
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


async def predicted(
    settings: DlqSettings, catalogue: Catalogue, what: str, chosen: LetterFilter, actor: str
) -> Predicted:
    """Does it in a transaction that is rolled back, and tells what came of it."""
    options = Options(actor=actor, limit=LIMIT, dry_run=True)
    found = await WORKS[what](settings, catalogue, chosen, options, lambda _: None)
    staying = [each for each in found if each.reason][:5]
    return Predicted(len(found), told(found), staying, len(found) == LIMIT)


def redrive_work(settings: DlqSettings, catalogue: Catalogue, chosen: LetterFilter, actor: str) -> Work:
    """Processes them again."""
    return _work("redrive", settings, catalogue, chosen, actor)


def discard_work(settings: DlqSettings, catalogue: Catalogue, chosen: LetterFilter, actor: str) -> Work:
    """Gives them up."""
    return _work("discard", settings, catalogue, chosen, actor)


def _work(what: str, settings: DlqSettings, catalogue: Catalogue, chosen: LetterFilter, actor: str) -> Work:
    async def work(report: Report) -> Result:
        done = 0

        def progress(letters: int) -> None:
            nonlocal done
            done += letters
            report(f"{done:,} letters are done.")

        found = await WORKS[what](settings, catalogue, chosen, Options(actor=actor, limit=LIMIT), progress)
        return Result(
            f"{len(found):,} letters were looked at.",
            rows=[(f"{number:,} {name}", why) for name, number, why in told(found)],
        )

    return work


def told(found: list[LetterOutcome]) -> list[tuple[str, int, str]]:
    """Each outcome with its number and its meaning, the most frequent first."""
    return [(name, number, MEANING[name]) for name, number in Counter(each.outcome for each in found).most_common()]
