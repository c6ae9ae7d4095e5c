"""A broker that asks everybody who they are: TLS, every SASL mechanism, certificates and rights."""

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from brokers.settings import KafkaSettings
from footfall.local.embedded.certificates import HOSTS, Certificates
from footfall.local.embedded.kafka import broker as kafka_broker
from footfall.local.embedded.kafka.accounts import Rule, allow, set_password
from footfall.local.embedded.kafka.broker import KafkaBroker
from footfall.local.embedded.kafka.jars import ensure_kafka_jars
from footfall.local.embedded.kafka.security import ADMIN, BROKER, BrokerSecurity
from tests.ports import free_port

MECHANISMS = {
    "SCRAM-SHA-512": "",
    "SCRAM-SHA-256": "",
    "PLAIN": 'user_plain="plain-password"',
    "OAUTHBEARER": 'unsecuredLoginStringClaim_sub="nobody"',
}
SCRAM_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule"
MACHINE = "machine"  # a client that comes with a certificate


class SecuredBroker:
    """`port` speaks SASL_SSL, `ports` the rest: OPEN, TLS, ELSEWHERE (another host's certificate), SASL, MTLS."""

    def __init__(self, broker: KafkaBroker, security: BrokerSecurity) -> None:
        self.port = broker.port
        self.certificates = security.certificates
        self.options = security.admin_options()  # of a client that may do everything
        self.ports = {name: port for name, (port, _) in security.listeners.items()} | {"MTLS": security.admin_port}
        self._passwords: dict[str, str] = {}

    def user(self, name: str, *rules: Rule, mechanism: str = "SCRAM-SHA-512") -> dict[str, str]:
        """Makes a user with exactly these rights, and returns what a process reads to come as that user."""
        password = self._passwords.setdefault(name, f"{name}/pass#word=,")
        asyncio.run(set_password(self.options, name, password, mechanism))
        self.allow(*rules)
        return {
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{self.port}",
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SSL_CA_FILE": str(self.certificates.authority),
            "KAFKA_SASL_MECHANISM": mechanism,
            "KAFKA_SASL_USERNAME": name,
            "KAFKA_SASL_PASSWORD": password,
        }

    def allow(self, *rules: Rule) -> None:
        """Gives rights."""
        if rules:
            asyncio.run(allow(self.options, rules))

    def settings(self, kind: type[KafkaSettings] = KafkaSettings, /, **fields: Any) -> Any:
        """Settings of a client that trusts the authority, as `alice` unless the fields say otherwise."""
        known = {name.lower(): value for name, value in self.user("alice").items()}
        return kind(**{**known, **fields})


def unsigned_token(subject: str, seconds: float = 300) -> str:
    """A token that Kafka's validator for development takes (RFC 7519, 6)."""
    claims = {"sub": subject, "iat": time.time() - 5, "exp": time.time() + seconds}
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "none"}, claims))
    return b".".join((*parts, b"")).decode()


@contextmanager
def secured_broker(home: Path) -> Iterator[SecuredBroker]:
    """Starts it for the body."""
    certificates = Certificates(
        home / "certificates", {ADMIN: HOSTS, BROKER: HOSTS, MACHINE: HOSTS, "elsewhere": ("kafka.example.org",)}
    )
    listeners = {"OPEN": "PLAINTEXT", "TLS": "SSL", "ELSEWHERE": "SSL", "SASL": "SASL_PLAINTEXT"}
    security = BrokerSecurity(
        certificates,
        free_port(),
        MECHANISMS,
        {name: (free_port(), kind) for name, kind in listeners.items()},
        [
            "listener.name.elsewhere.ssl.keystore.type=PEM",
            f"listener.name.elsewhere.ssl.keystore.location={certificates.file('elsewhere')}",
            "listener.name.sasl.sasl.enabled.mechanisms=SCRAM-SHA-512",
            f"listener.name.sasl.scram-sha-512.sasl.jaas.config={SCRAM_LOGIN} required;",
        ],
    )
    jars = ensure_kafka_jars(Console(quiet=True))
    broker = KafkaBroker(home, jars, free_port(), free_port(), brief=True, security=security)
    formatting = kafka_broker.begin_format(broker)
    assert formatting is not None
    kafka_broker.finish_format(broker, formatting)
    child = kafka_broker.start_broker(broker)
    try:
        kafka_broker.wait_for_broker(broker, child)
        yield SecuredBroker(broker, security)
    finally:
        child.process.kill()
        child.process.wait(10)
