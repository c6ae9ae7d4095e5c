"""What `footfall up --secure` adds: users with exactly their rights at Kafka, and TLS of Footfall's own ports."""

import asyncio
import os
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brokers.rights import AUDIT, DEAD_LETTERS, EVENTS, GROUP, KEYS, Right, least_rights
from contracts.record import CONSUMER_GROUP
from footfall.local.embedded.kafka.accounts import make_accounts, rules_of
from footfall.local.embedded.kafka.broker import MOST_COPIES
from footfall.local.embedded.kafka.security import ADMIN, FRONT, MECHANISM, BrokerSecurity
from footfall.local.embedded.ports import HOST
from footfall.local.embedded.stack import StackAddresses
from identity.keys.topic import ensure_topic
from identity.settings import KeySettings
from operations.settings import TopicSettings

OPERATOR_FILE = "operator.env"  # in the state directory
USERS = {
    "footfall-front": ("command side", "every process with AUTH=keys"),
    "footfall-projector": ("projector", "every process with AUTH=keys"),
    "footfall-console": ("`status`", "`replay`, `rebuild`", "`audit`", "every process with AUTH=keys"),
    "footfall-operator": (
        *("`topics create`", "`replay`, `rebuild`", "`status`", "`keys`", "`privacy`", "`audit`"),
        *("command side", "projector"),
    ),
}


@dataclass(frozen=True)
class Door:
    """How the processes of this run come to Kafka, and how they are spoken to. `trust` None: plain HTTP."""

    admin: Mapping[str, Any]  # Kafka settings of who may do everything
    front: Mapping[str, str] = field(default_factory=dict, repr=False)  # the environment of a process
    projector: Mapping[str, str] = field(default_factory=dict, repr=False)
    console: Mapping[str, str] = field(default_factory=dict, repr=False)
    trust: ssl.SSLContext | None = None

    @property
    def scheme(self) -> str:
        return "http" if self.trust is None else "https"


def prepare_door(stack: StackAddresses, state_dir: Path) -> Door:
    """Returns the open door, or makes the users of a secured stack, and a file of variables for operators."""
    security = stack.security
    if security is None:
        return Door({"kafka_bootstrap_servers": stack.kafka_bootstrap})
    users = make_users(security, stack.kafka_bootstrap)
    admin = admin_settings(stack)
    keys = KeySettings(**admin, kafka_replication_factor=min(len(stack.kafka.brokers), MOST_COPIES))
    asyncio.run(ensure_topic(keys.client_options(), keys.kafka_keys_topic, keys.kafka_replication_factor))
    operator = {**users["footfall-operator"], "DATABASE_URL": stack.admin_url}
    write_operator_environment(state_dir / OPERATOR_FILE, operator)
    trust = ssl.create_default_context(cafile=security.certificates.authority)
    front, projector = users["footfall-front"], users["footfall-projector"]
    authority = {"AUTH": "keys", "CONSOLE_WATCH_CA_FILE": str(security.certificates.authority)}
    console = {**users["footfall-console"], **authority}
    return Door(admin, {**front, "AUTH": "keys"}, {**projector, "AUTH": "keys"}, console, trust)


def admin_settings(stack: StackAddresses) -> dict[str, Any]:
    """Returns the Kafka settings of the administrator, who comes with a certificate."""
    securities = [broker.security for broker in stack.kafka.brokers if broker.security is not None]
    security = securities[0]
    return {
        "kafka_bootstrap_servers": ",".join(f"{HOST}:{each.admin_port}" for each in securities),
        "kafka_security_protocol": "SSL",
        "kafka_ssl_ca_file": security.certificates.authority,
        "kafka_ssl_certificate_file": security.certificates.file(ADMIN),
    }


def make_users(security: BrokerSecurity, bootstrap: str) -> Mapping[str, Mapping[str, str]]:
    """Makes the users, with new passwords and their rights; returns what a process reads to come as each."""
    topics, keys = TopicSettings.model_fields, KeySettings.model_fields
    names = {name: topics[name.lower()].default for name in (EVENTS, DEAD_LETTERS, AUDIT)}
    names |= {KEYS: keys[KEYS.lower()].default, GROUP: CONSUMER_GROUP}
    passwords = {user: secrets.token_hex(24) for user in USERS}
    rights = {
        user: [
            right
            for part in parts
            for right in [*least_rights(part, names), Right("DESCRIBE_CONFIGS", "topic", names[EVENTS])]
        ]
        for user, parts in USERS.items()
    }
    rights["footfall-operator"] += [  # of `topics check`
        Right("DESCRIBE_CONFIGS", "topic", names[topic]) for topic in (DEAD_LETTERS, AUDIT)
    ]
    make_accounts(
        security.admin_options(), passwords, [rule for user in USERS for rule in rules_of(user, rights[user])]
    )
    return {user: _environment(security, bootstrap, user, password) for user, password in passwords.items()}


def _environment(security: BrokerSecurity, bootstrap: str, user: str, password: str) -> Mapping[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SSL_CA_FILE": str(security.certificates.authority),
        "KAFKA_SASL_MECHANISM": MECHANISM,
        "KAFKA_SASL_USERNAME": user,
        "KAFKA_SASL_PASSWORD": password,
        "TLS_CERTIFICATE_FILE": str(security.certificates.file(FRONT)),
    }


def write_operator_environment(path: Path, environment: Mapping[str, str]) -> None:
    """Writes what an operator's shell reads: `set -a; . FILE`. Only this user can read it."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"{name}='{value}'\n" for name, value in environment.items())
