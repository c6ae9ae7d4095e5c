"""A connection to Kafka that a test leaves open is found, with the name of that test, before the collector meets it."""

import gc
import os
import warnings
import weakref
from collections.abc import Generator

import pytest
from aiokafka.conn import AIOKafkaConnection

_made: weakref.WeakKeyDictionary[AIOKafkaConnection, str] = weakref.WeakKeyDictionary()  # in which test
_make = AIOKafkaConnection.__init__


def _noted(self: AIOKafkaConnection, *args: object, **options: object) -> None:
    _make(self, *args, **options)
    self._made_in = _made[self] = os.environ.get("PYTEST_CURRENT_TEST", "no test")


def _named(self: AIOKafkaConnection) -> str:
    """What aiokafka's own warning shows, should the collector be first."""
    return f"<AIOKafkaConnection {self._client_id}, made in {self._made_in}>"


AIOKafkaConnection.__init__ = _noted
AIOKafkaConnection.__repr__ = _named


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """Fails the test with which an event loop ends whose connections are open, and says which test made them."""
    yield
    left = [connection for connection in _made if connection._loop.is_closed() and connection.connected()]
    if left:
        names = ", ".join(f"{connection._client_id}, made in {_made[connection]}" for connection in left)
        left.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
        pytest.fail(f"connections to Kafka were left open: {names}", pytrace=False)
