"""A broker of a test's own, with an authorizer: what each user may do is said by rules."""

# mypy: disable-error-code="misc"
# aiokafka is untyped, and a protocol's messages are subclasses of its classes.

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Float64, Int16, Int32, Schema, String
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from rich.console import Console

from brokers.rights import Right
from footfall.local.embedded.kafka import broker as kafka_broker
from footfall.local.embedded.kafka.accounts import allow, rules_of
from footfall.local.embedded.kafka.broker import KafkaBroker
from footfall.local.embedded.kafka.jars import ensure_kafka_jars
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.processes import wait_until

USER, PASSWORD = "weak", "weak-password"


class GuardedBroker:
    """`admin` may do everything and needs no password; `guarded` is for `USER`, over SASL."""

    def __init__(self, admin: str, guarded: str) -> None:
        self.admin = admin
        self.guarded = guarded

    @property
    def as_user(self) -> dict[str, str]:
        """What a process reads to come as `USER`."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.guarded,
            "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "KAFKA_SASL_MECHANISM": "PLAIN",
            "KAFKA_SASL_USERNAME": USER,
            "KAFKA_SASL_PASSWORD": PASSWORD,
        }

    async def allow(self, *rights: Right) -> None:
        """Gives `USER` these rights."""
        await allow({"bootstrap_servers": self.admin}, rules_of(USER, rights))

    async def limit(self, bytes_per_second: float) -> None:
        """Lets `USER` write, and read, so much, by a quota of Kafka's."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.admin)
        await admin.start()
        try:
            answer = await admin._send_to_controller(_AlterClientQuotas(USER, bytes_per_second))
        finally:
            await admin.close()
        assert [error for error, *_ in answer.results] == [0], answer

    def deny(self, *rights: Right) -> None:
        """Denies `USER` these rights on topics, whatever else allows them. Returns when the broker acts so."""
        admin, denied = AdminClient({"bootstrap.servers": self.admin}), AclPermissionType.DENY
        for made in admin.create_acls([_rule_of(right, denied, AclBinding) for right in rights]).values():
            made.result(PATIENCE)
        rules = [_rule_of(right, denied) for right in rights]
        wait_until(
            lambda: all(admin.describe_acls(rule).result(PATIENCE) for rule in rules), PATIENCE, "rights to be denied"
        )

    def take_away(self, *rights: Right) -> None:
        """Takes rights on topics from `USER`. Returns when the broker acts so."""
        admin, rules = AdminClient({"bootstrap.servers": self.admin}), [_rule_of(right) for right in rights]
        for taken in admin.delete_acls(rules).values():
            taken.result(PATIENCE)
        wait_until(
            lambda: not any(admin.describe_acls(rule).result(PATIENCE) for rule in rules), PATIENCE, "rights to go"
        )


class _QuotasAltered(Response):
    API_KEY = 49
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle", Int32),
        (
            "results",
            Array(("error", Int16), ("message", String()), ("entity", Array(("t", String()), ("n", String())))),
        ),
    )


class _AlterClientQuotasV0(RequestStruct):
    API_KEY = 49
    API_VERSION = 0
    RESPONSE_TYPE = _QuotasAltered
    SCHEMA = Schema(
        (
            "entries",
            Array(
                ("entity", Array(("type", String()), ("name", String()))),
                ("ops", Array(("key", String()), ("value", Float64), ("remove", Boolean))),
            ),
        ),
        ("validate_only", Boolean),
    )


class _AlterClientQuotas(Request[_AlterClientQuotasV0]):
    """Which aiokafka 0.14 does not have."""

    API_KEY = 49

    def __init__(self, user: str, rate: float) -> None:
        kinds = ("producer_byte_rate", "consumer_byte_rate")
        self._entry = ([("user", user)], [(kind, rate, False) for kind in kinds])

    def build(self, request_struct_class: type[_AlterClientQuotasV0]) -> _AlterClientQuotasV0:
        return request_struct_class([self._entry], False)


def _rule_of(
    right: Right, permission: AclPermissionType = AclPermissionType.ALLOW, kind: Any = AclBindingFilter
) -> Any:
    pattern = ResourcePatternType.PREFIXED if right.prefixed else ResourcePatternType.LITERAL
    return kind(ResourceType.TOPIC, right.name, pattern, f"User:{USER}", "*", AclOperation[right.operation], permission)


@contextmanager
def guarded_broker(home: Path, *more: str) -> Iterator[GuardedBroker]:
    """A broker that refuses `USER` whatever no rule allows. `more`: lines of its configuration."""
    broker = KafkaBroker(home, ensure_kafka_jars(Console(quiet=True)), free_port(), free_port(), brief=True)
    guarded = f"127.0.0.1:{free_port()}"
    usual = kafka_broker.server_properties

    def properties(broker: KafkaBroker, data: Path) -> str:
        return "\n".join([with_authorizer(usual(broker, data), guarded), *more, ""])

    kafka_broker.server_properties = properties
    try:
        formatting = kafka_broker.begin_format(broker)
        assert formatting is not None
        kafka_broker.finish_format(broker, formatting)
        child = kafka_broker.start_broker(broker)
    finally:
        kafka_broker.server_properties = usual
    try:
        kafka_broker.wait_for_broker(broker, child)
        yield GuardedBroker(broker.bootstrap, guarded)
    finally:
        child.process.kill()
        child.process.wait(10)


def with_authorizer(properties: str, guarded: str) -> str:
    """The usual configuration, and a listener for whoever has a password."""
    added = {
        "listeners=": f",GUARDED://{guarded}",
        "advertised.listeners=": f",GUARDED://{guarded}",
        "listener.security.protocol.map=": ",GUARDED:SASL_PLAINTEXT",
    }
    lines = [
        line + "".join(more for begin, more in added.items() if line.startswith(begin))
        for line in properties.splitlines()
    ]
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    return "\n".join(
        [
            *lines,
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users=User:ANONYMOUS",
            "listener.name.guarded.sasl.enabled.mechanisms=PLAIN",
            f'listener.name.guarded.plain.sasl.jaas.config={login} user_{USER}="{PASSWORD}";',
            "",
        ]
    )
