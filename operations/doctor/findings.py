"""What a check found: a closed set of verdicts, each with one meaning."""

from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

import msgspec

# well: it was looked at, and nothing is wrong. warning: nothing fails yet. problem: something fails, or will for sure.
# unknown: it could not be looked at, so nothing is said about it.
Verdict = Literal["well", "warning", "problem", "unknown"]
ORDER: tuple[Verdict, ...] = ("well", "warning", "unknown", "problem")

Subject = TypeVar("Subject")


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    check: str  # what was looked at
    verdict: Verdict
    says: str  # what was found, as a sentence
    remedy: str = ""  # what to do, as a sentence; empty if there is nothing to do, or `says` says it


Check = Callable[[Subject], Awaitable[list[Finding]]]


def worst(findings: list[Finding]) -> Verdict:
    """The worst verdict; `unknown` if nothing was looked at."""
    found: set[Verdict] = {finding.verdict for finding in findings}
    return max(found, key=ORDER.index) if found else "unknown"


def well_unless(check: str, found: list[Finding], says: str) -> list[Finding]:
    """The findings, or one that says that all is well."""
    return found or [Finding(check, "well", says)]
