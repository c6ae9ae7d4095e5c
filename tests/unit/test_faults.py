"""A fault of the program is told as one, and never as the trouble of a server that was asked."""

from collections.abc import Mapping
from typing import Any, cast

import asyncpg
import pytest
from asyncpg import exceptions

from brokers.troubles import Trouble, told
from projector.sealed.parts import opened_part
from projector.writing.failure import Failure, OpenerFaultError, kind_of, name_of
from sealing.errors import KeyStoreAwayError
from sealing.sessions import _talking
from telemetry.health import trouble_of


@pytest.mark.parametrize("error", [TypeError("x"), exceptions._base.DataError("x"), KeyError("x")])
async def test_only_errors_of_the_key_store_and_its_driver_are_its_own(error: Exception) -> None:
    with pytest.raises(type(error)):
        async with _talking():
            raise error
    for theirs in (OSError(), TimeoutError(), asyncpg.InterfaceError("lost"), asyncpg.PostgresSyntaxError("")):
        with pytest.raises(KeyStoreAwayError):
            async with _talking():
                raise theirs


async def test_a_projector_that_cannot_open_records_by_its_own_fault_stops_and_blames_no_record() -> None:
    class Faulty:
        async def opened_part(self, *_: object) -> Mapping[Any, Any]:
            raise TypeError

    with pytest.raises(OpenerFaultError) as caught:
        await opened_part(cast(Any, Faulty()), {}, None)
    assert kind_of(caught.value) is Failure.DEFECT
    assert name_of(caught.value) == "sealed records could not be opened: TypeError"


def test_a_fault_that_meets_whoever_asks_a_server_says_so() -> None:
    assert trouble_of(AttributeError("secret")) == "a fault of this program (AttributeError)"
    assert trouble_of(ConnectionRefusedError("secret")) == "ConnectionRefusedError"
    assert told(TypeError(), {}) == (Trouble.UNKNOWN, "it was not asked, by a fault of this program: TypeError")
