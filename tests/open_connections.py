"""A connection to Kafka that a test leaves open is found in that test, not in the one where the collector meets it."""

import gc
import warnings
import weakref
from collections.abc import Generator

import pytest
from aiokafka.conn import AIOKafkaConnection

_made: weakref.WeakSet[AIOKafkaConnection] = weakref.WeakSet()
_make = AIOKafkaConnection.__init__


def _noted(self: AIOKafkaConnection, *args: object, **options: object) -> None:
    _make(self, *args, **options)
    _made.add(self)


AIOKafkaConnection.__init__ = _noted


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """Fails the test whose event loop has ended without closing its connections."""
    yield
    left = [connection for connection in _made if connection._loop.is_closed() and connection.connected()]
    if left:
        names = ", ".join(f"{connection._host}:{connection._port} as {connection._client_id}" for connection in left)
        left.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
        pytest.fail(f"{item.nodeid} left connections to Kafka open: {names}", pytrace=False)
