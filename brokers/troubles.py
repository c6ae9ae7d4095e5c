"""What the error of a connection to a broker means: a kind, and a sentence that says what to do. None has a secret."""

import os
import ssl
from collections.abc import Mapping
from enum import Enum
from typing import Any

from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from brokers.credentials import TokenUnavailableError


class Trouble(Enum):
    """Why a broker cannot be used. The later ones say more, and are told first."""

    ANSWERS = "answers"  # now it does
    UNREACHABLE = "unreachable"
    SILENT = "silent"
    UNKNOWN = "unknown"
    HUNG_UP = "hung-up"
    SPEAKS_PLAINTEXT = "speaks-plaintext"
    SPEAKS_TLS = "speaks-tls"
    WRONG_HOST_NAME = "wrong-host-name"
    WRONG_AUTHORITY = "wrong-authority"
    EXPIRED_CERTIFICATE = "expired-certificate"
    CLIENT_CERTIFICATE = "client-certificate"
    NO_SASL = "no-sasl"
    WANTS_SASL = "wants-sasl"
    WRONG_MECHANISM = "wrong-mechanism"
    NO_TOKEN = "no-token"  # noqa: S105 - a word
    WRONG_CREDENTIALS = "wrong-credentials"


Explained = tuple[Trouble, str]

PASSING = (Trouble.UNREACHABLE, Trouble.SILENT, Trouble.ANSWERS)  # no setting is wrong; it may be back in a moment
HUNG_UP = Trouble.HUNG_UP, "the broker closed the connection without saying why"
WANTS_SASL = (
    Trouble.WANTS_SASL,
    "the broker takes no request without a password: set KAFKA_SECURITY_PROTOCOL to SASL_SSL or SASL_PLAINTEXT",
)
REFUSED_TOKEN = Trouble.WRONG_CREDENTIALS, "the broker refuses the token: look at its issuer, audience and expiry"
NO_SASL = (
    Trouble.NO_SASL,
    "this port asks for no password: KAFKA_SECURITY_PROTOCOL should not name SASL, or this is another listener's port",
)
UNPROVEN = (
    Trouble.WRONG_CREDENTIALS,
    "the broker did not prove that it knows the password of KAFKA_SASL_USERNAME: it may be another server",
)


def told(error: BaseException, options: Mapping[str, Any]) -> Explained:
    """What the error means. `options`: those of the client."""
    if isinstance(error, KafkaConnectionError) and error.__cause__ is not None:
        error = error.__cause__  # aiokafka closes a connection with what it read last
    if isinstance(error, KafkaError):
        return _kafka_told(error, options)
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_told(error)
    if isinstance(error, ssl.SSLError):
        return _tls_told(error)
    if isinstance(error, ValueError):
        return UNPROVEN
    return _network_told(error)


def _network_told(error: BaseException) -> Explained:
    if isinstance(error, TimeoutError):
        return Trouble.SILENT, "no answer in time"
    if isinstance(error, ConnectionResetError | BrokenPipeError | EOFError):
        return HUNG_UP
    if isinstance(error, OSError):
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        return Trouble.UNREACHABLE, f"it cannot be reached: {reason or type(error).__name__}"
    return Trouble.UNKNOWN, f"it was not asked, by a fault of this program: {type(error).__name__}"


def _kafka_told(error: KafkaError, options: Mapping[str, Any]) -> Explained:
    mechanism = options["sasl_mechanism"]
    refused = (
        Trouble.WRONG_CREDENTIALS,
        f"the broker refuses the user or the password (KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD, {mechanism})",
    )
    why = str(error.args[0]) if error.args else type(error).__name__
    meanings: dict[type[KafkaError], Explained] = {
        TokenUnavailableError: (Trouble.NO_TOKEN, f"OAUTHBEARER needs a token, and {why}"),
        SaslAuthenticationFailed: REFUSED_TOKEN if mechanism == "OAUTHBEARER" else refused,
        UnsupportedSaslMechanismError: (
            Trouble.WRONG_MECHANISM,
            f"the broker does not offer KAFKA_SASL_MECHANISM={mechanism}",
        ),
        IllegalSaslStateError: NO_SASL,
        KafkaConnectionError: HUNG_UP,
    }
    unknown = Trouble.UNKNOWN, f"it cannot be used: {type(error).__name__}"
    return next((meaning for kind, meaning in meanings.items() if isinstance(error, kind)), unknown)


def _certificate_told(error: ssl.SSLCertVerificationError) -> Explained:
    code = error.verify_code
    if code in (62, 64):  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
        return Trouble.WRONG_HOST_NAME, (
            "the broker's certificate is for another host name: use a name that it has, or give it this one"
        )
    if code in (9, 10):  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
        return Trouble.EXPIRED_CERTIFICATE, f"the broker's certificate cannot be used today: {error.verify_message}"
    return Trouble.WRONG_AUTHORITY, (
        f"the broker's certificate is signed by an authority that is not trusted here ({error.verify_message}): "
        "set KAFKA_SSL_CA_FILE to the authority's certificate"
    )


def _tls_told(error: ssl.SSLError) -> Explained:
    reason = error.reason or ""
    if any(word in reason for word in ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE")):
        return Trouble.CLIENT_CERTIFICATE, (
            f"the broker does not accept this client's certificate, or asks for one ({reason}): "
            "look at KAFKA_SSL_CERTIFICATE_FILE"
        )
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING", ""):
        return Trouble.HUNG_UP, "the TLS handshake ended without a certificate"
    return Trouble.UNKNOWN, f"the TLS handshake failed: {reason}"
