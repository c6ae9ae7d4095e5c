"""500 forged and twisted tokens: none is accepted, whatever the algorithm, and none of them raises."""

import json
import random
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from identity.tokens.key_set import KeySet, read_key_set
from identity.tokens.known_keys import KnownKeys
from identity.tokens.outcomes import TokenFault
from identity.tokens.tokens import Tokens, tokens_of
from tests.drivers.token_issuer import (
    AUDIENCE,
    ISSUER,
    NOW,
    SIGNING_KEYS,
    as_json,
    b64,
    claims_at,
    header_for,
    jwks,
    settings,
    signed,
    token,
)
from web.policies.principal import AccessScope, Principal

ALGORITHMS = tuple(SIGNING_KEYS)
THEIRS: dict[str, Any] = {  # of an attacker, with the names of ours
    "RS256": RSAKey.generate_key(2048, {"kid": "rsa"}),
    "PS256": RSAKey.generate_key(2048, {"kid": "pss"}),
    "ES256": ECKey.generate_key("P-256", {"kid": "ec"}),
    "EdDSA": OKPKey.generate_key("Ed25519", {"kid": "ed"}),
}
with warnings.catch_warnings():
    warnings.simplefilter("ignore", SecurityWarning)
    SMALL = RSAKey.generate_key(1024, {"kid": "rsa"})
HEADERS: dict[str, dict[str, Any]] = {  # what is changed; ... takes a name away
    "no typ": {"typ": ...},
    "typ JWT": {"typ": "JWT"},
    "typ of an ID token": {"typ": "id+jwt"},
    "typ of logout": {"typ": "logout+jwt"},
    "typ longer": {"typ": "at+jwt2"},
    "typ with space": {"typ": " at+jwt"},
    "typ as list": {"typ": ["at+jwt"]},
    "typ null": {"typ": None},
    "alg none": {"alg": "none"},
    "alg None": {"alg": "None"},
    "alg nOnE": {"alg": "nOnE"},
    "alg empty": {"alg": ""},
    "alg null": {"alg": None},
    "alg list": {"alg": ["RS256"]},
    "no alg": {"alg": ...},
    "alg HS256": {"alg": "HS256"},
    "alg HS512": {"alg": "HS512"},
    "alg RS384": {"alg": "RS384"},
    "alg RS1": {"alg": "RS1"},
    "alg ES256K": {"alg": "ES256K"},
    "alg lower": {"alg": "rs256"},
    "alg of encryption": {"alg": "RSA-OAEP", "enc": "A256GCM"},
    "no kid": {"kid": ...},
    "kid empty": {"kid": ""},
    "kid null": {"kid": None},
    "kid number": {"kid": 1},
    "kid list": {"kid": ["rsa"]},
    "kid a path": {"kid": "../../../../dev/null"},
    "kid SQL": {"kid": "rsa' OR '1'='1"},
    "kid with NUL": {"kid": "rsa\0"},
    "kid with space": {"kid": "rsa "},
    "kid in upper case": {"kid": "RSA"},
    "kid a URL": {"kid": "https://evil.example.com/keys"},
    "kid long": {"kid": "k" * 300},
    "crit": {"crit": ["exp"], "exp": 1},
    "crit empty": {"crit": []},
    "crit b64": {"crit": ["b64"], "b64": False},
    "b64 false": {"b64": False},
    "b64 true": {"b64": True},
    "jku": {"jku": "https://evil.example.com/keys"},
    "x5u": {"x5u": "https://evil.example.com/cert"},
    "x5c": {"x5c": ["MIIB"]},
    "cty JWT": {"cty": "JWT"},
    "zip": {"zip": "DEF"},
    "enc": {"enc": "A256GCM"},
    "unheard of": {"nonce": "x"},
}
CLAIMS: dict[str, dict[str, Any]] = {
    "no iss": {"iss": ...},
    "iss prefix": {"iss": ISSUER[:-1]},
    "iss longer": {"iss": ISSUER + "/"},
    "iss of another realm": {"iss": "https://id.example.com/realms/other"},
    "iss upper": {"iss": ISSUER.upper()},
    "iss list": {"iss": [ISSUER]},
    "iss null": {"iss": None},
    "no aud": {"aud": ...},
    "aud other": {"aud": "https://other.example.com"},
    "aud prefix": {"aud": AUDIENCE[:-1]},
    "aud longer": {"aud": AUDIENCE + "/"},
    "aud upper": {"aud": AUDIENCE.upper()},
    "aud list of others": {"aud": ["account", "https://other.example.com"]},
    "aud list empty": {"aud": []},
    "aud list nested": {"aud": [[AUDIENCE]]},
    "aud list with a number": {"aud": [AUDIENCE, 1]},
    "aud list with null": {"aud": [None, AUDIENCE]},
    "aud list long": {"aud": [AUDIENCE] * 17},
    "aud object": {"aud": {AUDIENCE: True}},
    "aud words": {"aud": f"{AUDIENCE} account"},
    "no exp": {"exp": ...},
    "exp null": {"exp": None},
    "exp text": {"exp": str(int(NOW) + 300)},
    "exp true": {"exp": True},
    "exp list": {"exp": [int(NOW) + 300]},
    "exp long ago": {"exp": int(NOW) - 3_600, "iat": int(NOW) - 7_200},
    "exp just now": {"exp": int(NOW) - 30, "iat": int(NOW) - 300},
    "exp zero": {"exp": 0},
    "exp negative": {"exp": -1},
    "exp in milliseconds": {"exp": (int(NOW) + 300) * 1000},
    "exp far": {"exp": int(NOW) + 86_400 * 365},
    "exp huge": {"exp": 1e308},
    "exp beyond": {"exp": 10**400},
    "exp before iat": {"exp": int(NOW) + 5, "iat": int(NOW) + 6},
    "no iat": {"iat": ...},
    "iat null": {"iat": None},
    "iat text": {"iat": "now"},
    "iat false": {"iat": False},
    "iat negative": {"iat": -1},
    "iat zero": {"iat": 0},
    "iat in the future": {"iat": int(NOW) + 60},
    "nbf in the future": {"nbf": int(NOW) + 60},
    "nbf text": {"nbf": "x"},
    "nbf null": {"nbf": None},
    "nbf true": {"nbf": True},
    "nbf negative": {"nbf": -5},
    "no sub": {"sub": ...},
    "sub empty": {"sub": ""},
    "sub number": {"sub": 1},
    "sub list": {"sub": ["alice"]},
    "sub null": {"sub": None},
    "sub long": {"sub": "a" * 256},
    "sub with a line": {"sub": "alice\nadmin"},
    "sub with NUL": {"sub": "alice\0"},
    "no tenant": {"tenant_id": ...},
    "tenant empty": {"tenant_id": ""},
    "tenant list": {"tenant_id": ["acme"]},
    "tenant null": {"tenant_id": None},
    "tenant with a slash": {"tenant_id": "acme/bob"},
    "tenant with a space": {"tenant_id": "acme "},
    "tenant with a line": {"tenant_id": "acme\n"},
    "tenant long": {"tenant_id": "a" * 65},
    "tenant of other letters": {"tenant_id": "аcme"},
    "scope number": {"scope": 1},
    "scope null": {"scope": None},
    "scope list of numbers": {"scope": [1]},
    "scope object": {"scope": {"events:write": True}},
}


def changed(base: dict[str, Any], by: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**base, **by}.items() if value is not ...}


def with_other_headers(algorithm: str) -> Iterator[tuple[str, bytes]]:
    header, claims = header_for(algorithm), claims_at()
    for name, by in HEADERS.items():
        yield name, signed(algorithm, changed(header, by), claims)
    jwk = THEIRS[algorithm].as_dict(private=False)
    yield "their jwk", signed(algorithm, {**header, "jwk": jwk}, claims, THEIRS[algorithm])
    yield (
        "their jwk without kid",
        signed(algorithm, changed(header, {"jwk": jwk, "kid": ...}), claims, THEIRS[algorithm]),
    )
    yield "their key", signed(algorithm, header, claims, THEIRS[algorithm])
    for other in ALGORITHMS:
        if other != algorithm:
            yield f"alg {other}", signed(algorithm, {**header, "alg": other}, claims)
            yield f"kid of {other}", signed(algorithm, {**header, "kid": SIGNING_KEYS[other].kid}, claims)
            yield f"all of {other}", signed(algorithm, header_for(other), claims)


def with_a_secret_that_is_public(algorithm: str) -> Iterator[tuple[str, bytes]]:
    key: Any = SIGNING_KEYS[algorithm]
    secrets = {
        "PEM": key.as_pem(private=False),
        "DER": key.as_der(private=False),
        "JWK": json.dumps(key.as_dict(private=False)).encode(),
        "kid": str(key.kid).encode() * 8,
    }
    for name, secret in secrets.items():
        yield f"HS256 with {name}", signed("HS256", {**header_for(algorithm), "alg": "HS256"}, claims_at(), secret)
        yield f"HS256 as {algorithm} with {name}", signed("HS256", header_for(algorithm), claims_at(), secret)


def with_other_claims(algorithm: str) -> Iterator[tuple[str, bytes]]:
    for name, by in CLAIMS.items():
        yield name, signed(algorithm, header_for(algorithm), changed(claims_at(), by))


def with_other_texts(algorithm: str) -> Iterator[tuple[str, bytes]]:
    header, claims = as_json(header_for(algorithm)), as_json(claims_at())
    payloads = {
        "exp NaN": claims.replace(b'"exp": 1800000300', b'"exp": NaN'),
        "exp Infinity": claims.replace(b'"exp": 1800000300', b'"exp": Infinity'),
        "exp -Infinity": claims.replace(b'"exp": 1800000300', b'"exp": -Infinity'),
        "exp 1e999": claims.replace(b'"exp": 1800000300', b'"exp": 1e999'),
        "sub twice": claims.replace(b'"sub"', b'"sub": "bob", "sub"'),
        "tenant twice": claims[:-1] + b', "tenant_id": "umbrella"}',
        "exp twice": claims[:-1] + b', "exp": 1800000300}',
        "twice deep down": claims[:-1] + b', "x": {"a": 1, "a": 2}}',
        "no UTF-8": claims.replace(b"alice", b"al\xffice"),
        "UTF-16": claims.decode().encode("utf-16"),
        "BOM": b"\xef\xbb\xbf" + claims,
        "surrogate": claims.replace(b"alice", rb"al\ud800ice"),
        "list": b"[" + claims + b"]",
        "text": b'"' + b64(claims) + b'"',
        "null": b"null",
        "empty": b"",
        "deep": claims[:-1] + b', "x": ' + b"[" * 1_500 + b"]" * 1_500 + b"}",
        "more behind": claims + b"{}",
        "comment": claims + b"/**/",
        "digits": claims.replace(b"1800000300", b"1" * 5_000),
    }
    for name, payload in payloads.items():
        assert payload != claims, name
        yield name, signed(algorithm, header, payload)
    headers = {
        "alg twice": header[:-1] + b', "alg": "none"}',
        "kid twice": header[:-1] + b', "kid": "rsa"}',
        "header no UTF-8": header.replace(b"at+jwt", b"at+jwt\xff"),
        "header list": b"[" + header + b"]",
        "header null": b"null",
        "header deep": b"[" * 2_000,
    }
    for name, text in headers.items():
        yield name, signed(algorithm, text, claims)


def spelled_otherwise(algorithm: str) -> Iterator[tuple[str, bytes]]:
    whole = token(algorithm)
    header, payload, signature = whole.split(b".")
    yield "no signature", header + b"." + payload + b"."
    yield "two parts", header + b"." + payload
    yield "four parts", whole + b"." + signature
    yield "five parts", header + b".." + payload + b".." + signature
    yield "no payload", header + b".." + signature
    yield "detached, all empty", b".."
    yield "padded", header + b"=." + payload + b"." + signature
    yield "with a line", whole + b"\n"
    yield "with a space", b" " + whole
    yield "with NUL", whole + b"\0"
    yield "no ASCII", whole + "ä".encode()
    yield "percent", whole.replace(b".", b"%2E")
    yield "signature of another", header + b"." + payload + b"." + token(algorithm, sub="bob").split(b".")[2]
    yield "payload of another", header + b"." + token(algorithm, sub="bob").split(b".")[1] + b"." + signature
    yield "signature zero", header + b"." + payload + b"." + b64(bytes(64))
    yield "signature one byte", header + b"." + payload + b"." + b64(b"\x00")
    yield "signature long", header + b"." + payload + b"." + b64(b"\xff" * 2_000)
    yield "signature doubled", whole + signature
    yield "JSON serialisation", as_json({"protected": header.decode(), "payload": payload.decode()})
    yield "huge", signed(algorithm, header_for(algorithm), claims_at(x="x" * 20_000))
    yield "huge without end", b"A" * 1_000_000
    last = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    if len(signature) % 4:  # bits that no byte has: base64 libraries take them for nothing
        yield "another last letter", whole[:-1] + bytes([last[last.index(whole[-1]) ^ 1]])


def with_a_bit_changed(algorithm: str) -> Iterator[tuple[str, bytes]]:
    chance, whole = random.Random(algorithm), token(algorithm)
    for number in range(60):
        place, bit = chance.randrange(len(whole)), 1 << chance.randrange(8)
        yield f"bit {number}", whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :]


def forged(algorithm: str) -> list[tuple[str, bytes]]:
    kinds = (
        with_other_headers,
        with_a_secret_that_is_public,
        with_other_claims,
        with_other_texts,
        spelled_otherwise,
        with_a_bit_changed,
    )
    return [named for kind in kinds for named in kind(algorithm)]


@pytest.fixture
async def tokens() -> Tokens:
    return await with_keys(read_key_set(as_json(jwks()), ALGORITHMS))


async def with_keys(keys: KeySet, **setting: Any) -> Tokens:
    """Checks tokens with keys that are there already."""

    async def fetch() -> KeySet:
        return keys

    tokens = tokens_of(settings(**setting))
    tokens.keys = KnownKeys(fetch)
    await tokens.keys.ask()
    return tokens


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_no_forged_token_is_accepted(tokens: Tokens, algorithm: str) -> None:
    sound = token(algorithm)
    attempts = forged(algorithm)
    assert len(attempts) * len(ALGORITHMS) >= 500
    for remembered in (False, True):  # once before the sound one is known, once after
        results = {name: tokens.principal(text, NOW) for name, text in attempts}
        assert {name: found for name, found in results.items() if not isinstance(found, TokenFault)} == {}
        found = tokens.principal(sound, NOW)
        assert found == Principal(
            "acme", f"token:{ISSUER}/alice", frozenset({AccessScope.EVENTS_WRITE, AccessScope.EVENTS_READ})
        ), remembered


async def test_what_is_wrong_is_what_is_said(tokens: Tokens) -> None:
    said = {name: tokens.principal(text, NOW) for name, text in forged("RS256")}
    expected = {
        "huge": TokenFault.TOO_LARGE,
        "two parts": TokenFault.MALFORMED,
        "sub twice": TokenFault.MALFORMED,
        "exp NaN": TokenFault.MALFORMED,
        "no UTF-8": TokenFault.MALFORMED,
        "jku": TokenFault.HEADER,
        "their jwk": TokenFault.HEADER,
        "typ JWT": TokenFault.TYPE,
        "alg none": TokenFault.ALGORITHM,
        "HS256 with PEM": TokenFault.ALGORITHM,
        "kid a path": TokenFault.KEY,
        "alg ES256": TokenFault.KEY,
        "their key": TokenFault.SIGNATURE,
        "HS256 as RS256 with PEM": TokenFault.SIGNATURE,
        "iss prefix": TokenFault.ISSUER,
        "aud list of others": TokenFault.AUDIENCE,
        "exp just now": TokenFault.EXPIRED,
        "nbf in the future": TokenFault.NOT_YET,
        "exp far": TokenFault.TIMES,
        "sub empty": TokenFault.SUBJECT,
        "tenant with a slash": TokenFault.TENANT,
        "scope null": TokenFault.SCOPES,
    }
    assert {name: said[name] for name in expected} == expected


@pytest.mark.parametrize(
    "by",
    [
        {"typ": "application/at+jwt"},
        {"typ": "AT+JWT"},
        {"x5t": "abc", "x5t#S256": "def"},
    ],
)
async def test_sound_headers_are_taken(tokens: Tokens, by: dict[str, Any]) -> None:
    assert isinstance(tokens.principal(signed("ES256", {**header_for("ES256"), **by}, claims_at()), NOW), Principal)


@pytest.mark.parametrize(
    "by",
    [
        {"aud": [AUDIENCE]},
        {"aud": ["account", AUDIENCE]},
        {"exp": NOW + 0.5},
        {"exp": int(NOW) - 29, "iat": int(NOW) - 99},  # within the leeway
        {"iat": int(NOW) + 29},
        {"nbf": int(NOW)},
    ],
)
async def test_sound_claims_are_taken(tokens: Tokens, by: dict[str, Any]) -> None:
    assert isinstance(tokens.principal(token("ES256", **by), NOW), Principal)


async def test_claims_are_mapped_by_settings() -> None:
    keys = read_key_set(as_json(jwks()), ALGORITHMS)
    elsewhere = {"oidc_tenant_claim": "org", "oidc_subject_claim": "client_id", "oidc_scope_claims": "permissions, scp"}
    mapped = await with_keys(keys, **elsewhere)
    found = mapped.principal(token(org="umbrella", scp=["export", "admin", "Events:Write"]), NOW)
    assert found == Principal("umbrella", f"token:{ISSUER}/shop", frozenset({AccessScope.EXPORT}))
    fixed = await with_keys(keys, oidc_tenant="default")
    found = fixed.principal(token(tenant_id="umbrella", scope=""), NOW)
    assert found == Principal("default", f"token:{ISSUER}/alice", frozenset())


async def test_a_weak_sign_in_neither_operates_nor_erases() -> None:
    keys = read_key_set(as_json(jwks()), ALGORITHMS)
    strict, granted = await with_keys(keys, oidc_strong_acr="phr, phrh"), "operator privacy events:read"
    weak: list[dict[str, Any]] = [{}, {"acr": "pwd"}, {"acr": ["phr"]}, {"acr": "phr "}, {"amr": ["phr"]}]
    for acr in weak:
        found = strict.principal(token(scope=granted, **acr), NOW)
        assert isinstance(found, Principal)
        assert found.scopes == {AccessScope.EVENTS_READ}
    for found in (
        strict.principal(token(scope=granted, acr="phrh"), NOW),
        (await with_keys(keys)).principal(token(scope=granted), NOW),
    ):
        assert isinstance(found, Principal)
        assert found.scopes == {AccessScope.OPERATOR, AccessScope.PRIVACY, AccessScope.EVENTS_READ}


async def test_an_accepted_token_is_remembered_until_it_expires(tokens: Tokens) -> None:
    text = token(exp=int(NOW) + 10)
    found = tokens.principal(text, NOW)
    assert tokens.principal(bytes(bytearray(text)), NOW + 39.9) is found  # not checked again: the very same
    assert tokens.principal(text, NOW + 40) is TokenFault.EXPIRED  # 30 s of leeway


async def test_only_so_many_tokens_are_remembered() -> None:
    tokens = await with_keys(read_key_set(as_json(jwks()), ALGORITHMS), oidc_remembered_tokens=8)
    first = token("EdDSA", sub="first")
    kept = tokens.principal(first, NOW)
    for number in range(50):
        tokens.principal(token("EdDSA", sub=f"user-{number}"), NOW)
        assert tokens.principal(first, NOW) is kept  # what is used is not forgotten
    assert len(tokens._accepted) <= 8


@pytest.mark.parametrize(
    ("name", "key", "further"),
    [
        ("symmetric", OctKey.generate_key(256, {"kid": "rsa"}), {}),
        ("for encryption", THEIRS["RS256"], {"use": "enc"}),
        ("for other operations", THEIRS["RS256"], {"key_ops": ["encrypt"]}),
        ("for another algorithm", THEIRS["RS256"], {"alg": "RS512"}),
        ("without a name", RSAKey.generate_key(2048), {}),
        ("small", SMALL, {}),
        ("of another curve", ECKey.generate_key("P-384", {"kid": "ec"}), {}),
        ("Ed448", OKPKey.generate_key("Ed448", {"kid": "ed"}), {}),
        ("X25519", OKPKey.generate_key("X25519", {"kid": "ed"}), {}),
    ],
)
def test_keys_that_cannot_be_used_are_left_out(name: str, key: Any, further: dict[str, Any]) -> None:
    entry = {**key.as_dict(private=False), **further} if name != "symmetric" else key.as_dict(private=True)
    with pytest.raises(ValueError, match="no key that could be used"):
        read_key_set(as_json({"keys": [entry]}), ALGORITHMS)


def test_rsa_keys_are_as_long_as_the_operator_wants_them() -> None:
    entries = [RSAKey.generate_key(bits, {"kid": str(bits)}).as_dict(private=False) for bits in (2048, 3072)]
    text = as_json({"keys": [*entries, SIGNING_KEYS["ES256"].as_dict(private=False)]})
    assert read_key_set(text, ALGORITHMS).kids == {"2048", "3072", "ec"}
    assert read_key_set(text, ALGORITHMS, 3072).kids == {"3072", "ec"}


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"null", b'{"keys":{}}', b'{"keys":[null,1,"x",[],{}]}', b"\xff", b"{" * 9999]
)
def test_what_is_no_key_set_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"key|JSON|codec|Expecting|object|deep"):
        read_key_set(text, ALGORITHMS)


def test_a_key_set_is_bounded_and_has_no_two_keys_of_one_name() -> None:
    entry = SIGNING_KEYS["ES256"].as_dict(private=False)
    with pytest.raises(ValueError, match="at most 64"):
        read_key_set(as_json({"keys": [{**entry, "kid": str(number)} for number in range(65)]}), ALGORITHMS)
    twins = [
        entry,
        {**THEIRS["ES256"].as_dict(private=False), "kid": "ec"},
        SIGNING_KEYS["RS256"].as_dict(private=False),
    ]
    keys = read_key_set(as_json({"keys": twins}), ALGORITHMS)
    assert keys.kids == {"rsa"}
    private = SIGNING_KEYS["ES256"].as_dict(private=True)
    with pytest.raises(ValueError, match="no key"):
        read_key_set(as_json({"keys": [private]}), ALGORITHMS)
