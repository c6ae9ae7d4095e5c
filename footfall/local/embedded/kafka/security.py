"""A broker that lets in only whom it knows: TLS on every listener, passwords, and rights that are given one by one.

Clients come with a password over `CLIENTS`. The administrator and the broker itself come with a certificate over
`ADMIN`, and may do everything.
"""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from footfall.local.embedded.certificates import Certificates
from footfall.local.embedded.ports import HOST

ADMIN, BROKER = "footfall-admin", "footfall-broker"  # common names of their certificates
FRONT = "footfall-front"
MECHANISM = "SCRAM-SHA-512"
MODULES = {
    "PLAIN": "plain.PlainLoginModule",
    "SCRAM-SHA-256": "scram.ScramLoginModule",
    "SCRAM-SHA-512": "scram.ScramLoginModule",
    "OAUTHBEARER": "oauthbearer.OAuthBearerLoginModule",
}


@dataclass(frozen=True)
class BrokerSecurity:
    """Certificates and the administrator's port.

    `mechanisms`: those of `CLIENTS`, each with the options of its login module. `listeners`: further ones, each with
    its port and protocol. `lines`: further lines of the configuration.
    """

    certificates: Certificates
    admin_port: int
    mechanisms: Mapping[str, str] = field(default_factory=lambda: {MECHANISM: ""})
    listeners: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    lines: Sequence[str] = ()

    def admin_context(self) -> ssl.SSLContext:
        """Returns the TLS context of the administrator."""
        context = ssl.create_default_context(cafile=self.certificates.authority)
        context.load_cert_chain(self.certificates.file(ADMIN))
        return context

    def admin_options(self) -> dict[str, Any]:
        """Returns the options of a Kafka client that may do everything."""
        return {
            "bootstrap_servers": f"{HOST}:{self.admin_port}",
            "security_protocol": "SSL",
            "ssl_context": self.admin_context(),
        }

    def properties(self, port: int, controller_port: int) -> str:
        """Returns the part of the broker's configuration that says who may come, and how."""
        served = {"CLIENTS": (port, "SASL_SSL"), "ADMIN": (self.admin_port, "SSL"), **self.listeners}
        every = {**served, "CONTROLLER": (controller_port, "SSL")}
        login = "org.apache.kafka.common.security"
        return "\n".join(
            [
                f"listeners={_addresses(every)}",
                f"advertised.listeners={_addresses(served)}",
                "controller.listener.names=CONTROLLER",
                "inter.broker.listener.name=ADMIN",
                "listener.security.protocol.map=" + ",".join(f"{name}:{kind}" for name, (_, kind) in every.items()),
                "ssl.keystore.type=PEM",
                f"ssl.keystore.location={self.certificates.file(BROKER)}",
                "ssl.truststore.type=PEM",
                f"ssl.truststore.location={self.certificates.authority}",
                "ssl.principal.mapping.rules=RULE:^.*CN=([^,]+).*$/$1/",
                "listener.name.admin.ssl.client.auth=required",
                "listener.name.controller.ssl.client.auth=required",
                f"listener.name.clients.sasl.enabled.mechanisms={','.join(self.mechanisms)}",
                *(
                    f"listener.name.clients.{name.lower()}.sasl.jaas.config={login}.{MODULES[name]} required {options};"
                    for name, options in self.mechanisms.items()
                ),
                "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                f"super.users=User:{ADMIN};User:{BROKER}",
                *self.lines,
            ]
        )


def _addresses(listeners: Mapping[str, tuple[int, str]]) -> str:
    return ",".join(f"{name}://{HOST}:{port}" for name, (port, _) in listeners.items())
