"""FastStream, installed once into an environment of its own: its libraries are not ours."""

import hashlib
import subprocess
import sys
from pathlib import Path

from footfall.local.embedded.paths import open_cache

HOME = Path(__file__).with_name("faststream")
PROGRAM, TABLE = HOME / "subscriber.py", HOME / "events.sql"
REQUIREMENTS = HOME / "requirements.txt"
INSTALL_WITHIN = 300.0  # seconds


def python() -> Path:
    """Returns the interpreter that has FastStream; the first call on a machine installs it."""
    home = open_cache() / f"faststream-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:8]}"
    found = home / "bin" / "python"
    if not (home / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True, timeout=INSTALL_WITHIN)
        install = [str(found), "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS)]
        subprocess.run(install, check=True, timeout=INSTALL_WITHIN)
        (home / "complete").touch()
    return found
