"""Requests to S3: one bound on how long each is tried, in the place of the loops of two libraries around each other."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from botocore.exceptions import IncompleteReadError
from botocore.parsers import ResponseParserError
from s3fs import S3File, S3FileSystem

from operations.archive.files.s3_failures import may_pass, told
from operations.settings import ArchiveSettings

GIVE_UP_AFTER = 30.0  # seconds for which a request that fails is sent again
CONNECT_TIMEOUT = 5  # seconds
READ_TIMEOUT = 15  # seconds without a byte of an answer
READS_AT_ONCE = 10  # as many as the client has connections: what waits for one is not tried yet
SLOWEST_UPLOAD = 100_000  # bytes a second
UPLOAD_TIMEOUT = 30.0  # seconds beside those that the bytes take at SLOWEST_UPLOAD; then the server has stalled
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between two tries
ANSWERED = {
    "list_objects_v2": {"Name", "IsTruncated", "KeyCount"},
    "put_object": {"ETag"},
    "create_multipart_upload": {"UploadId"},
    "upload_part": {"ETag"},
    "complete_multipart_upload": {"ETag"},
}  # one of which every good answer has: a page in HTML can be read as an empty one

T = TypeVar("T")


class GivenUpError(OSError):
    """The server failed for as long as a request is tried. Nothing more is asked of it."""


def pauses() -> Iterator[float]:
    """Yields how many seconds to wait before each try, until a request is given up."""
    began, pause = time.monotonic(), FIRST_PAUSE
    yield 0.0
    while time.monotonic() - began + pause < GIVE_UP_AFTER:
        yield random.uniform(pause / 2, pause)  # noqa: S311 - spreads requests, hides nothing
        pause = min(2 * pause, LONGEST_PAUSE)


class Requests(S3FileSystem):  # type: ignore[misc] # s3fs has no types
    """s3fs whose requests are tried until one bound, each alone.

    After one was given up, the others fail at once: a thousand reads of a dead server take as long as one.
    """

    retries = 1  # the loop of s3fs itself
    keeps_versions = False  # whether the bucket was seen to keep, as an older version, what was removed
    _given_up: GivenUpError | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._places = asyncio.Semaphore(READS_AT_ONCE)

    @staticmethod
    def close_session(loop: asyncio.AbstractEventLoop | None, s3: Any) -> None:
        """Closes the connections in the loop that has them. s3fs does it in whichever runs at the last use."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            S3FileSystem.close_session(loop, s3)
        else:
            if loop is not None and loop.is_running():
                asyncio.run_coroutine_threadsafe(s3.__aexit__(None, None, None), loop)

    def give_up(self, error: Exception) -> GivenUpError:
        """Returns what every request raises from now on."""
        self._given_up = self._given_up or GivenUpError(f"{told(error)}. It was tried for {GIVE_UP_AFTER:.0f} s")
        return self._given_up

    async def tried(self, call: Callable[[], Awaitable[T]]) -> T:
        """Calls until it succeeds. Raises what may not pass, and GivenUpError."""
        failed: Exception = TimeoutError()
        for pause in pauses():
            await asyncio.sleep(pause)
            if self._given_up is not None:
                raise GivenUpError(str(self._given_up))
            try:
                return await call()
            except Exception as error:
                if isinstance(error, GivenUpError) or not may_pass(error):
                    raise
                failed = error
        raise self.give_up(failed) from failed

    def opened(self, path: str, block_bytes: int) -> "RemoteFile":
        """Opens a file to read. Raises FileNotFoundError."""
        return RemoteFile(self, path, block_size=block_bytes)

    async def _call_s3(self, method: str, *given: Any, **named: Any) -> Any:
        async def call() -> Any:
            # The client bounds how long it waits for an answer, and not how long a server may take to read a body.
            body = named.get("Body")
            limit = None if body is None else UPLOAD_TIMEOUT + len(body) / SLOWEST_UPLOAD
            async with asyncio.timeout(limit):
                answer = await super(Requests, self)._call_s3(method, *given, **named)
            if method in ANSWERED and not ANSWERED[method] & answer.keys():
                raise ResponseParserError(f"no answer to {method}")
            if method == "delete_object" and answer.get("VersionId", "null") != "null":
                self.keeps_versions = True
            return answer

        return await self.tried(call)

    async def _abort_mpu(self, *upload: Any) -> None:
        """Ends an upload that failed, if it may: what the operator is told is why it failed."""
        with contextlib.suppress(Exception):
            await super()._abort_mpu(*upload)

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        async def call() -> bytes:
            begin = start or 0
            size = (end if end is not None else (await self._info(path))["size"]) - begin
            content: bytes = b""
            if size:
                content = await super(Requests, self)._cat_file(path, start=begin, end=begin + size)
            if len(content) != size:  # what is between may cut an answer and tell a length that fits
                raise IncompleteReadError(actual_bytes=len(content), expected_bytes=size)
            return content

        async with self._places:
            return await self.tried(call)


class RemoteFile(S3File):  # type: ignore[misc] # s3fs has no types
    """A file that is read at any position, a block at a time."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        found: bytes = self.fs.cat_file(self.path, start=start, end=end)
        return found


def client(settings: ArchiveSettings) -> Requests:
    """Returns what sends the requests. Nothing is sent yet."""
    given = {"endpoint_url": settings.archive_s3_endpoint_url, "region_name": settings.archive_s3_region}
    return Requests(
        key=settings.archive_s3_access_key_id or None,
        secret=settings.archive_s3_secret_access_key.get_secret_value() or None,
        client_kwargs={name: value for name, value in given.items() if value},
        config_kwargs={
            "connect_timeout": CONNECT_TIMEOUT,
            "read_timeout": READ_TIMEOUT,
            "response_checksum_validation": "when_required",  # `verify` tells which file and records were changed
            "retries": {"mode": "standard", "total_max_attempts": 1},  # the loop of the client
        },
        skip_instance_cache=True,
        use_listings_cache=False,
    )
