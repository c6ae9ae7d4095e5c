"""`/console/jobs`: how far something is that somebody began, and how it ended."""

from litestar import Response, get

from console.actions.jobs import Job, TooManyError, Work
from console.asking import AnyRequest, Asking, PageError, TheConsole, address, to

GONE = "This console does not know of it any more; the audit log does (`footfall audit list`)."


@get("/console/jobs", include_in_schema=False)
async def job(request: AnyRequest, console: TheConsole) -> Response[bytes]:
    """One of them."""
    asking = console.asking(request)
    found = console.jobs.find(asking.query.get("number", ""))
    if found is None:
        raise PageError(404, GONE)
    if asking.is_partial:
        return asking.page("job_part.html", job=found)
    return asking.page("job.html", job=found)


async def begun(asking: Asking, action: str, back: str, work: Work) -> Response[bytes]:
    """Begins it, and shows it."""
    try:
        found: Job = await asking.console.jobs.begin(action, asking.actor(), back, work)
    except TooManyError:
        raise PageError(
            503, "Other work runs on this console, and has not ended. Wait for it, and try again."
        ) from None
    return to(address("/console/jobs", {"number": found.number}))


JOB_ROUTES = (job,)
