"""What an operator's form begins: once, however often the form is sent."""

import asyncio

import pytest

from console.actions import jobs
from console.actions.jobs import AT_ONCE, Jobs, Report, Result, TooManyError, is_number, new_number


async def test_a_form_that_is_sent_twice_begins_one_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "SOON", 0.01)
    begun, go = 0, asyncio.Event()

    async def work(report: Report) -> Result:
        nonlocal begun
        begun += 1
        await go.wait()
        return Result("Queries see read_g1 now.")

    known, number = Jobs(), new_number()
    first = await known.begin(number, "rebuild rollback", "me", "/console/rebuilds", work)
    second = await known.begin(number, "rebuild rollback", "me", "/console/rebuilds", work)
    assert (first is second, first.sent, begun) == (True, 2, 1)
    go.set()
    third = await known.begin(number, "rebuild rollback", "me", "/console/rebuilds", work)
    assert (third.result, begun) == (Result("Queries see read_g1 now."), 1), "also when it has ended"
    another = await known.begin(new_number(), "rebuild rollback", "me", "/console/rebuilds", work)
    assert (another.sent, begun) == (1, 2)


async def test_a_form_sent_again_is_shown_what_it_began_while_nothing_more_may_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobs, "SOON", 0.01)

    async def work(report: Report) -> Result:
        await asyncio.Event().wait()
        return Result("never")

    known, numbers = Jobs(), [new_number() for _ in range(AT_ONCE)]
    for number in numbers:
        await known.begin(number, "rebuild verify", "me", "/console/rebuilds", work)
    with pytest.raises(TooManyError):
        await known.begin(new_number(), "rebuild verify", "me", "/console/rebuilds", work)
    assert (await known.begin(numbers[0], "rebuild verify", "me", "/console/rebuilds", work)).sent == 2
    await known.close()


def test_only_what_we_made_is_a_number() -> None:
    number = new_number()
    assert is_number(number)
    assert not any(is_number(text) for text in ("", "1", number.upper(), f"{{{number}}}", number[:-1], "../" + number))
