"""An issuer of access tokens in this process: its keys, its tokens, and the server that gives its keys."""

import asyncio
import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from identity.tokens.key_set import verifier
from identity.tokens.settings import TokenSettings

ISSUER, AUDIENCE = "https://id.example.com/realms/shop", "https://footfall.example.com"
NOW = 1_800_000_000.0  # Unix time, seconds

SIGNING_KEYS: dict[str, Key] = {
    "RS256": RSAKey.generate_key(2048, {"kid": "rsa"}),
    "PS256": RSAKey.generate_key(2048, {"kid": "pss", "alg": "PS256"}),
    "ES256": ECKey.generate_key("P-256", {"kid": "ec"}),
    "EdDSA": OKPKey.generate_key("Ed25519", {"kid": "ed"}),
}
SETTINGS: dict[str, Any] = {
    "oidc_issuer": ISSUER,
    "oidc_audience": AUDIENCE,
    "oidc_algorithms": "RS256,PS256,ES256,EdDSA",
}


def settings(**changed: Any) -> TokenSettings:
    return TokenSettings(**{**SETTINGS, **changed})


def jwks(keys: Mapping[str, Key] = SIGNING_KEYS, **further: Any) -> dict[str, Any]:
    return {"keys": [{**key.as_dict(private=False), "use": "sig", **further} for key in keys.values()]}


def header_for(algorithm: str) -> dict[str, Any]:
    return {"typ": "at+jwt", "alg": algorithm, "kid": SIGNING_KEYS[algorithm].kid}


def claims_at(now: float = NOW, **changed: Any) -> dict[str, Any]:
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "iat": int(now) - 10,
        "exp": int(now) + 300,
        "jti": "1",
        "client_id": "shop",
        "tenant_id": "acme",
        "scope": "openid events:write events:read",
        **changed,
    }


def b64(value: bytes) -> bytes:
    return urlsafe_b64encode(value).rstrip(b"=")


def as_json(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def signed(algorithm: str, header: Any, claims: Any, key: Any = None) -> bytes:
    """A token that the algorithm signs, whatever its header says. `bytes` go into it as they are."""
    text = b64(as_json(header)) + b"." + b64(as_json(claims))
    return text + b"." + b64(_sign(algorithm, text, key or SIGNING_KEYS[algorithm]))


def _sign(algorithm: str, text: bytes, key: Any) -> bytes:
    if algorithm == "HS256":
        return hmac.digest(key, text, "sha256")
    signer: Any = verifier(algorithm)
    signature: bytes = signer.sign(text, key)
    return signature


def token(algorithm: str = "RS256", now: float = NOW, **claims: Any) -> bytes:
    return signed(algorithm, header_for(algorithm), claims_at(now, **claims))


class KeyServer:
    """Answers every request with `answer`, and counts them."""

    def __init__(self) -> None:
        self.answer = whole(as_json(jwks()))
        self.answers: dict[bytes, bytes] = {}  # by path, where it is not `answer`
        self.asked: list[bytes] = []
        self.port = 0
        self.drip = 0.0  # seconds between the bytes of an answer
        self.go_on = asyncio.Event()  # an answer waits for it
        self.go_on.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/keys"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readexactly(1)
            if head == b"\x16":  # TLS, which this server does not speak
                return
            head += await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ")[1]
            self.asked.append(path)
            await self.go_on.wait()
            answer = self.answers.get(path, self.answer)
            for piece in [bytes([byte]) for byte in answer] if self.drip else [answer]:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(self.drip)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def whole(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@asynccontextmanager
async def key_server() -> AsyncIterator[KeyServer]:
    server = KeyServer()
    listening = await asyncio.start_server(server._serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield server


@contextmanager
def keys_served() -> Iterator[dict[str, str]]:
    """Serves the keys from a thread. Gives the settings of a process whose door such tokens open."""

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = as_json(jwks())
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Keys) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield {
                "AUTH": "tokens",
                "OIDC_ISSUER": ISSUER,
                "OIDC_AUDIENCE": AUDIENCE,
                "OIDC_JWKS_URL": f"http://127.0.0.1:{server.server_port}/keys",
            }
        finally:
            server.shutdown()
            thread.join()


def authorization(subject: str, scope: str = "events:write events:read", tenant: str = "default") -> str:
    """A header line with a fresh token."""
    text = token("ES256", time.time(), sub=subject, scope=scope, tenant_id=tenant)
    return f"Authorization: Bearer {text.decode()}"
