"""`/console/jobs`: how far something is that somebody began, and how it ended."""

from collections.abc import Mapping

from litestar import Response, get

from console.actions.jobs import Job, TooManyError, Work, is_number
from console.asking import AnyRequest, Asking, PageError, TheConsole, address, to

GONE = (
    "This console process does not know of it: it was long ago, or another process began it. The audit log has it "
    "(footfall audit list)."
)
NUMBER = "number"  # the form's field, and the query's
NO_NUMBER = "This is no form that a page of the console has."


@get("/console/jobs", include_in_schema=False)
async def job(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """One of them."""
    asking = console.asking(request)
    found = console.jobs.find(asking.query.get(NUMBER, ""))
    if found is None:
        raise PageError(404, GONE)
    if asking.is_partial:
        return asking.page("job_part.html", job=found)
    return asking.page("job.html", job=found)


async def begun(asking: Asking, form: Mapping[str, str], action: str, back: str, work: Work) -> Response[bytes]:
    """Begins it, and shows it; a form that is sent again shows what it began. Raises PageError."""
    number = form.get(NUMBER, "")
    if not is_number(number):
        raise PageError(400, NO_NUMBER)
    try:
        found: Job = await asking.console.jobs.begin(number, action, asking.actor(), back, work)
    except TooManyError:
        raise PageError(
            503, "Other work runs on this console, and has not ended. Wait for it, and try again."
        ) from None
    return to(address("/console/jobs", {NUMBER: found.number}))


JOB_ROUTES = (job,)
