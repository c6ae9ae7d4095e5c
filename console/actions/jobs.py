"""What operators have begun: some of it takes minutes, and a page that is closed must not end it."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import msgspec
import uuid_utils
from aiokafka.errors import KafkaError

from operations.doctor.examine import told
from operations.refusal import RefusedError
from projector.dead_letters.redrive_attempt import RedriveError
from read_model.audit import AuditUnavailableError
from sealing.errors import KeysError
from telemetry.logs import get_logger

KEPT = 50  # that have ended
AT_ONCE = 4
SOON = 3.0  # seconds that a form waits for its end
REFUSALS = (RefusedError, RedriveError, AuditUnavailableError)
FORESEEN = (OSError, KafkaError, KeysError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError)

Report = Callable[[str], None]  # takes a sentence about how far it is
Work = Callable[[Report], Awaitable["Result"]]


class TooManyError(Exception):
    """So much has begun and not ended that nothing more is begun."""


class Result(msgspec.Struct, frozen=True):
    """How it ended. `well`: as it was meant. `rows`: name and value of what is worth a table."""

    says: str
    well: bool = True
    rows: list[tuple[str, str]] = []


class Job(msgspec.Struct):
    """One thing that somebody began. `back`: the page to go back to. `sent`: how often its form was sent."""

    number: str
    action: str
    actor: str
    back: str
    began: datetime
    says: str = "It has begun."
    sent: int = 1
    ended: datetime | None = None
    result: Result | None = None
    task: "asyncio.Task[None] | None" = None


def new_number() -> str:
    """What a form carries that asks whether to begin something: sent twice, it begins one thing."""
    return str(uuid_utils.uuid7())


def is_number(text: str) -> bool:
    """Whether a form carries what `new_number` made."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


class Jobs:
    """Those of this process, the newest last."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Job] = OrderedDict()

    def find(self, number: str) -> Job | None:
        """The one with this number."""
        return self._known.get(number)

    def running(self) -> list[Job]:
        """Those that have not ended."""
        return [job for job in self._known.values() if job.ended is None]

    async def begin(self, number: str, action: str, actor: str, back: str, work: Work) -> Job:
        """Begins it, and gives it a moment to end. Raises TooManyError.

        `number`: of the form that was sent, by `new_number`. If it was sent before, this is what it began then.
        """
        job = self._known.get(number)
        if job is None:
            if len(self.running()) >= AT_ONCE:
                raise TooManyError
            job = self._known[number] = Job(number, action, actor, back, datetime.now(UTC))
            self._forget()
            job.task = asyncio.create_task(_run(job, work))
        else:
            job.sent += 1
        if job.task is not None:
            await asyncio.wait([job.task], timeout=SOON)
        return job

    async def close(self) -> None:
        """Ends what runs."""
        tasks = [job.task for job in self.running() if job.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self) -> None:
        ended = [job.number for job in self._known.values() if job.ended]
        for number in ended[:-KEPT]:
            del self._known[number]


async def _run(job: Job, work: Work) -> None:
    def report(says: str) -> None:
        job.says = says

    try:
        job.result = await work(report)
    except REFUSALS as error:
        job.result = Result(f"It was refused, and nothing was changed. {error}", well=False)
    except FORESEEN as error:
        job.result = Result(f"It failed: {told(error)}. What was finished before stays finished.", well=False)
    except asyncio.CancelledError:
        job.result = Result("This console ended while it ran. The audit log says how far it is known.", well=False)
        raise
    except Exception as error:  # noqa: BLE001 - a page says that it failed; the log says how
        get_logger("console").error("action_failed", action=job.action, exc_info=error)
        job.result = Result("It failed for a reason that nobody foresaw; the console's log has it.", well=False)
    finally:
        job.ended = datetime.now(UTC)
