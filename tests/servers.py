"""Which real servers the tests run on: given addresses, else containers, else the embedded stack."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from footfall.local.embedded import StackAddresses, StackOptions, embedded_stack
from footfall.local.embedded.kafka.class_archive import archive_path

GIVEN_KAFKA = "TEST_KAFKA_BOOTSTRAP_SERVERS"
GIVEN_ADMIN = "TEST_ADMIN_DATABASE_URL"  # a role with CREATEDB and CREATEROLE
GIVEN_PROJECTOR = "TEST_PROJECTOR_DATABASE_URL"  # a member of footfall_writer
GIVEN_QUERY = "TEST_QUERY_DATABASE_URL"  # a member of footfall_reader


@dataclass(frozen=True)
class Servers:
    """A Kafka and a PostgreSQL, with the URLs of the three roles."""

    kafka: str
    admin_url: str
    projector_url: str
    query_url: str
    files: Path | None = field(default=None, kw_only=True)  # of both servers, if they run here

    def with_database(self, name: str) -> "Servers":
        """The same servers, another database."""
        return replace(
            self,
            admin_url=at_database(self.admin_url, name),
            projector_url=at_database(self.projector_url, name),
            query_url=at_database(self.query_url, name),
        )


def at_database(url: str, name: str) -> str:
    """The URL of database `name` on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def chosen() -> str:
    """Which servers this run will use: given, docker or embedded."""
    if GIVEN_KAFKA in os.environ:
        return "given"
    return "docker" if docker_answers() else "embedded"


def docker_answers() -> bool:
    """Whether a Docker engine can be reached."""
    if not (os.environ.get("DOCKER_HOST") or Path("/var/run/docker.sock").exists()):
        return False
    try:
        import docker  # type: ignore[import-untyped]  # noqa: PLC0415 - comes with testcontainers; its import is slow

        return bool(docker.from_env(timeout=5).ping())
    except Exception:  # noqa: BLE001 - whatever it says, there is no engine for us
        return False


@contextmanager
def servers(state_dir: Path) -> Iterator[Servers]:
    """The chosen servers, running for the body."""
    choice = chosen()
    if choice == "given":
        yield Servers(*(os.environ[name] for name in (GIVEN_KAFKA, GIVEN_ADMIN, GIVEN_PROJECTOR, GIVEN_QUERY)))
    elif choice == "docker":
        with in_containers() as found:
            yield found
    else:
        with embedded_stack(StackOptions(state_dir, durable=False)) as stack:
            yield Servers(stack.kafka_bootstrap, stack.admin_url, stack.projector_url, stack.query_url, files=state_dir)
            end_at_once(stack)


def end_at_once(stack: StackAddresses) -> None:
    """Ends servers whose data nobody needs: an orderly end writes every topic of the run to the disk, for seconds."""
    if archive_path(stack.kafka.brokers[0].jars).exists():  # else the JVM is still to make it
        for pid in stack.kafka.pids:
            os.kill(pid, signal.SIGKILL)
        os.kill(stack.postgres_pid, signal.SIGQUIT)


@contextmanager
def in_containers() -> Iterator[Servers]:
    """Kafka and PostgreSQL by testcontainers; the roles come from the script that compose.yaml uses."""
    from testcontainers.community.kafka import KafkaContainer  # noqa: PLC0415 - needs an engine to be of use
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415

    passwords = {f"FOOTFALL_{role}_PASSWORD": os.urandom(16).hex() for role in ("OWNER", "PROJECTOR", "QUERY")}
    script = Path(__file__).resolve().parents[1] / "deploy" / "postgres"
    postgres = PostgresContainer("postgres:18", username="postgres", dbname="footfall", driver=None)
    for name, value in passwords.items():
        postgres.with_env(name, value)
    postgres.with_volume_mapping(str(script), "/docker-entrypoint-initdb.d", "ro")
    with postgres, KafkaContainer("confluentinc/cp-kafka:8.1.0").with_kraft() as kafka:
        where = f"{postgres.get_container_host_ip()}:{postgres.get_exposed_port(5432)}/footfall"
        urls = {
            role: f"postgresql://{login}:{passwords[f'FOOTFALL_{role}_PASSWORD']}@{where}"
            for role, login in (("OWNER", "footfall"), ("PROJECTOR", "footfall_projector"), ("QUERY", "footfall_query"))
        }
        yield Servers(kafka.get_bootstrap_server(), urls["OWNER"], urls["PROJECTOR"], urls["QUERY"])
