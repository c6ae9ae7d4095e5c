"""Two real rsyslogs with the configurations that are shipped: one beside a process, one that keeps its log."""

import re
import shutil
import signal
import subprocess
from pathlib import Path

import trustme

from footfall.local.embedded.child_process import spawn_child
from tests.architecture.repository import ROOT
from tests.patience import PATIENCE
from tests.ports import free_port

SHIPPED = ROOT / "deploy" / "logs"
SENDER, RECEIVER = "activity.example.org", "logs.example.org"
JOURNAL = re.compile(r'module\(load="imjournal".*\)')


class Rsyslog:
    """One rsyslog, whose state and files are in a directory of its own."""

    def __init__(self, home: Path, configuration: str) -> None:
        program = shutil.which("rsyslogd")
        assert program is not None
        # A copy: AppArmor keeps the one of the distribution to the distribution's own paths.
        self._home, self._program = home, shutil.copy(program, home / "rsyslogd")
        (home / "rsyslog.conf").write_text(configuration)
        self.start()

    def start(self) -> None:
        command = [str(self._program), "-n", "-f", str(self._home / "rsyslog.conf"), "-i", str(self._home / "pid")]
        log = self._home / "rsyslog.log"
        self._popen = spawn_child(command, death_signal=signal.SIGKILL, log_path=log)

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait(PATIENCE)


def problems(configuration: Path) -> list[str]:
    """What rsyslog says of a file, whose certificates are not here."""
    command = ["rsyslogd", "-N1", "-f", str(configuration)]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE).stderr
    return [line for line in said.splitlines() if "error" in line and "certificate file /etc/footfall" not in line]


class LogsAway:
    """The log file of a process, sent to `kept`. What comes from journald comes from the file here."""

    def __init__(self, scratch: Path, log: Path) -> None:
        self._scratch, self._log, self._port = scratch, log, free_port()
        self._authority = trustme.CA()
        self.receiver = Rsyslog(self._home("receiver"), self._text("receiver", self._authority, RECEIVER))
        self.sender = self.another_sender("sender", self._authority)

    def another_sender(self, name: str, authority: trustme.CA, says: str = SENDER) -> Rsyslog:
        """A machine that sends the same file, and shows a certificate of this authority in this name."""
        home = self._home(name)
        tailed = f'module(load="imfile")\ninput(type="imfile" file="{self._log}" tag="footfall")'
        text, replaced = JOURNAL.subn(tailed, self._text(name, authority, says, shipped="sender"))
        assert replaced == 1
        text = text.replace(f'target="{RECEIVER}"', 'target="127.0.0.1"')
        return Rsyslog(home, text.replace('resumeInterval="5"', 'resumeInterval="1"'))

    def kept(self) -> list[str]:
        """The lines that arrived."""
        files = (self._scratch / "receiver" / "kept").rglob("*.jsonl")
        return [line for file in files for line in file.read_text().splitlines()]

    def files(self) -> list[Path]:
        return [*(self._scratch / "receiver" / "kept").rglob("*.jsonl")]

    def close(self) -> None:
        self.sender.kill()
        self.receiver.kill()

    def _home(self, name: str) -> Path:
        home = self._scratch / name
        home.mkdir()
        return home

    def _text(self, name: str, authority: trustme.CA, says: str, shipped: str = "") -> str:
        home = self._scratch / name
        issued = authority.issue_cert(says, common_name=says)
        (home / "certificate.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(home / "key.pem")
        self._authority.cert_pem.write_to_path(home / "ca.pem")
        text = (SHIPPED / f"{shipped or name}.conf").read_text().replace("2514", str(self._port))
        text = text.replace("/etc/footfall/logs", str(home)).replace("/var/spool/rsyslog", str(home))
        return text.replace("/var/log/footfall", str(home / "kept"))
