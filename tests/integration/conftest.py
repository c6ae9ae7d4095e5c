"""Servers and stores that several modules of integration tests have."""

from collections.abc import AsyncIterator, Iterator
from unittest.mock import patch

import pytest

from operations.archive.files import s3_requests
from tests.conftest import Footfall
from tests.drivers.archiving import Bucket, a_bucket
from tests.drivers.own_broker import OwnBroker
from tests.drivers.s3_answers import Answers, answers_before
from tests.drivers.sealed import KeyStoreOfTest, key_store_of
from tests.drivers.token_issuer import KeyServer, key_server


@pytest.fixture(scope="module")
def s3() -> Iterator[Bucket]:
    """A server that speaks S3, with a bucket."""
    with a_bucket() as found:
        yield found


@pytest.fixture
def bucket(s3: Bucket) -> Bucket:
    """An empty folder of the bucket."""
    s3.new_folder()
    return s3


@pytest.fixture
def keys(footfall: Footfall) -> KeyStoreOfTest:
    """The key store of a sealed log."""
    return key_store_of(footfall)


@pytest.fixture
async def issuer() -> AsyncIterator[KeyServer]:
    """What publishes the keys of tokens."""
    async with key_server() as server:
        yield server


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnBroker]:
    """A broker that a module may freeze, stop and kill; each test leaves it running."""
    broker = OwnBroker(tmp_path_factory.mktemp("broker"))
    yield broker
    broker.kill()


@pytest.fixture
def server(s3: Bucket) -> Iterator[Answers]:
    """What stands before that server, and answers in its place."""
    with answers_before(s3.settings["ARCHIVE_S3_ENDPOINT_URL"]) as found:
        yield found


@pytest.fixture
def hasty() -> Iterator[None]:
    """Requests to a bucket that fail are sent again for two seconds, in the place of thirty; a slow answer is one."""
    with patch.object(s3_requests, "GIVE_UP_AFTER", 2.0):
        yield


@pytest.fixture
def impatient(hasty: None) -> Iterator[None]:
    """As `hasty`, and a slow answer is none: for tests in which no request has to succeed."""
    with patch.multiple(s3_requests, READ_TIMEOUT=0.5, UPLOAD_TIMEOUT=2.0):
        yield
