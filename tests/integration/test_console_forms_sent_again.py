"""A form that is sent twice, or after somebody else has acted: what it asks for is done once, or not at all."""

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import Footfall
from tests.patience import PATIENCE
from tests.processes import wait_until
from tests.producing import produce, some_records, sql, start_projector, wait_until_owning

Form = dict[str, str]


@pytest.fixture(scope="module")
def console(shared_footfall: Footfall) -> Iterator[httpx.Client]:
    wait_until_owning(start_projector(shared_footfall), 6)
    produce(shared_footfall, some_records(20))
    process = shared_footfall.start("console", OPERATOR_DATABASE_URL=shared_footfall.servers.admin_url)
    with httpx.Client(base_url=process.url, timeout=PATIENCE) as client:
        wait_until(lambda: "read_g1" in client.get("/console/rebuilds").text, 20, "the first look")
        yield client


def fields(page: str) -> Form:
    """The hidden fields of a page's last form."""
    form = page.rpartition("<form")[2]
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form))


def asked(console: httpx.Client, what: str, **more: str) -> Form:
    """The form of the page that asks whether to do it."""
    page = console.get("/console/generations/ask", params={"what": what, **more})
    assert page.status_code == 200, page.text
    return {"what": what, **fields(page.text)}


def sent(console: httpx.Client, form: Form) -> str:
    """What the page says of what a form began, when that has ended."""
    answer = console.post("/console/generations/do", data=form)
    assert answer.status_code == 303, answer.text
    job = answer.headers["location"]
    wait_until(lambda: ">running<" not in console.get(job).text, 60, "it to end")
    return console.get(job).text


def done(footfall: Footfall, action: str) -> int:
    return len(sql(footfall.servers, f"SELECT 1 FROM ops.audit WHERE action = '{action}' AND outcome = 'begun'"))


def serving(footfall: Footfall) -> str:
    return str(sql(footfall.servers, "SELECT name FROM ops.generations WHERE state = 'active'")[0]["name"])


def seen_serving(console: httpx.Client, name: str) -> bool:
    return (
        re.search(rf'id="g-{name}">{name}</h2><span class="tag \w+">active', console.get("/console/rebuilds").text)
        is not None
    )


def test_a_form_sent_twice_is_done_once_and_shown_so(console: httpx.Client, shared_footfall: Footfall) -> None:
    form = asked(console, "stop", partition="5")
    pages = [sent(console, form) for _ in range(2)]
    assert ["Stopped: read_g1, partition 5" in page for page in pages] == [True, True]
    assert ["sent 2 times, and done once" in page for page in pages] == [False, True]
    assert done(shared_footfall, "partition stop") == 1
    assert "Goes on" in sent(console, asked(console, "restart", partition="5"))
    form.pop("number")
    assert console.post("/console/generations/do", data=form).status_code == 400, "of no page"
    assert console.post("/console/generations/do", data={**form, "number": "1"}).status_code == 400


def test_a_switch_that_somebody_else_has_made_meanwhile_is_not_taken_back(
    console: httpx.Client, shared_footfall: Footfall
) -> None:
    assert "is being built" in sent(console, asked(console, "start"))
    wait_until(lambda: "is verified" in sent(console, asked(console, "verify")), 60, "the build to be verified")
    mine, theirs = asked(console, "promote"), asked(console, "promote")
    assert "Queries see" in sent(console, mine)
    assert "It was refused" in sent(console, theirs)
    built = serving(shared_footfall)
    assert built != "read_g1"
    wait_until(lambda: seen_serving(console, built), 20, "the console to see it")
    mine, theirs = asked(console, "rollback"), asked(console, "rollback")
    assert "Queries see read_g1 now" in sent(console, mine)
    page = sent(console, theirs)
    assert f"Queries see read_g1, and saw {built} when this was asked." in page
    assert serving(shared_footfall) == "read_g1", "two operators who roll back at once do not roll forward again"
    assert "is dropped" in sent(console, asked(console, "drop"))


def test_a_build_that_differs_is_not_verified_and_the_difference_is_named(
    console: httpx.Client, shared_footfall: Footfall
) -> None:
    assert "is being built" in sent(console, asked(console, "start"))
    wait_until(lambda: "is verified" in sent(console, asked(console, "verify")), 60, "the build to be verified")
    changed = "UPDATE read_g1.user_activity SET product_views = product_views + 1 WHERE user_id = 'user-1'"
    sql(shared_footfall.servers, changed)
    page = sent(console, asked(console, "verify"))
    assert "is NOT equal to read_g1" in page
    assert re.search(r"user_activity</th><td>[\d,]+ and [\d,]+ rows, different</td>", page), page
    assert re.search(r"user_activity</th><td>[^<]*user-1[^<]*</td>", page), page
    sql(shared_footfall.servers, changed.replace("+ 1", "- 1"))
    assert "is dropped" in sent(console, asked(console, "cancel"))
