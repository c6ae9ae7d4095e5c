"""What a request to S3 ended with: whether it may be well a moment later, and a sentence for the operator."""

from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from aiohttp import ClientPayloadError
from botocore import exceptions
from botocore.exceptions import (
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ResponseStreamingError,
    SSLError,
)
from botocore.parsers import ResponseParserError

AGAIN = "Run the command again when it is well: nothing is lost, and it goes on where it was"
CREDENTIALS = "Check ARCHIVE_S3_ACCESS_KEY_ID and ARCHIVE_S3_SECRET_ACCESS_KEY"
REGION = "Set ARCHIVE_S3_REGION to the region of the bucket, and check ARCHIVE_S3_ENDPOINT_URL"
ENDPOINT = "Check ARCHIVE_S3_ENDPOINT_URL and ARCHIVE_LOCATION"
EXPIRED = "Get credentials of a new session, or a role; then run the command again: it goes on where it was"

SHOWN = 200  # characters of what a server says

_PASSING_STATUSES = {429, 500, 502, 503, 504}
_PASSING_CODES = {"ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "SlowDown"}
_BROKEN = (
    HTTPClientError,
    exceptions.ConnectionError,
    IncompleteReadError,
    ResponseParserError,
    ClientPayloadError,
    ConnectionError,
    TimeoutError,
)

_PERMISSIONS = {
    "ListObjectsV2": "s3:ListBucket",
    "HeadObject": "s3:GetObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
}  # of other operations: their own name

_REMEDIES = {
    "NoSuchBucket": "Make the bucket, or name another one in ARCHIVE_LOCATION",
    "InvalidAccessKeyId": CREDENTIALS,
    "SignatureDoesNotMatch": CREDENTIALS,
    "ExpiredToken": EXPIRED,
    "TokenRefreshRequired": EXPIRED,
    "InvalidToken": CREDENTIALS,
    "NoSuchUpload": AGAIN,
    "RequestTimeTooSkewed": "Set the clock of this machine",
    "AuthorizationHeaderMalformed": REGION,
    "InvalidObjectState": "Bring the objects back from the storage class that they were moved to",
}  # by the code in the answer's body


def may_pass(error: BaseException) -> bool:
    """Returns whether the same request may be answered well a moment later."""
    refused = answered(error)
    if refused is not None:
        return _status(refused) in _PASSING_STATUSES or _code(refused) in _PASSING_CODES
    return isinstance(error, _BROKEN) and not isinstance(error, SSLError)


def answered(error: BaseException) -> Any:
    """Returns the ClientError that an error is or was made of; None: the server did not answer with a refusal."""
    for each in (error, error.__cause__):
        if isinstance(each, ClientError):
            return each
    return None


def is_taken(error: BaseException) -> bool:
    """Tells a name that is taken by the answer's status: what more the answer says, each server decides."""
    refused = answered(error)
    return refused is not None and _status(refused) == HTTPStatus.PRECONDITION_FAILED


def is_ended(error: BaseException) -> bool:
    """Tells an upload in parts that its server no longer knows, such as one that it completed before."""
    refused = answered(error)
    return refused is not None and _code(refused) == "NoSuchUpload"


def told(error: BaseException) -> str:
    """Says what happened and what to do. It quotes no secret, and no more of an answer than its code and message."""
    refused = answered(error)
    if refused is not None:
        return _told_refusal(refused)
    return _told_connection(error) or _told_other(error)


def _told_connection(error: BaseException) -> str:
    """What no answer, or a broken one, means; "" if it was something else."""
    if isinstance(error, SSLError):
        return f"its certificate is not accepted ({_first_line(error)}). AWS_CA_BUNDLE names the certificates"
    if isinstance(error, ClientPayloadError | IncompleteReadError | ResponseStreamingError):
        return f"its answers end in the middle ({_first_line(error)}). {AGAIN}"
    if isinstance(error, ResponseParserError):
        return f"what answers there is no server of S3. {ENDPOINT}"
    if may_pass(error):
        return f"no answer from {_server(error)} ({type(error).__name__}). {ENDPOINT}, and the network. {AGAIN}"
    return ""


def _told_other(error: BaseException) -> str:
    if isinstance(error, NoCredentialsError):
        return "there are no credentials. Set ARCHIVE_S3_ACCESS_KEY_ID and ARCHIVE_S3_SECRET_ACCESS_KEY, or a role"
    if isinstance(error, RecursionError):  # botocore follows a redirect that does not name the bucket's region
        return f"its server sends requests elsewhere. {REGION}"
    if isinstance(error, OSError):  # of this machine, or a sentence of ours
        return error.strerror or str(error) or type(error).__name__
    return f"{type(error).__name__}: {_first_line(error)}"


def _told_refusal(refused: Any) -> str:
    status, code, operation = _status(refused), _code(refused), refused.operation_name
    found = refused.response.get("Error", {})
    said = ": ".join(text for text in (code, _shortened(found.get("Message") or "")) if text and text != str(status))
    answer = f"its server answered {operation} with {status}{f' ({said})' if said else ''}"
    return f"{answer}. {_remedy(status, code, operation)}"


def _remedy(status: int, code: str, operation: str) -> str:
    if code in _REMEDIES:
        return _REMEDIES[code]
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        permission = _PERMISSIONS.get(operation, f"s3:{operation}")
        return f"Allow {permission} to its credentials, or check them and what is between; then run the command again"
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return REGION
    if status in _PASSING_STATUSES or code in _PASSING_CODES:
        return AGAIN
    if status == HTTPStatus.BAD_REQUEST and operation.startswith("Head"):  # an answer without a body tells no code
        return f"If its credentials are of a session that ended: {EXPIRED}. Else: {REGION}"
    return f"{ENDPOINT}; the server's log says more"


def _status(refused: Any) -> int:
    return int(refused.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(refused: Any) -> str:
    return str(refused.response.get("Error", {}).get("Code") or "")


def _server(error: Any) -> str:
    """The server that a request was for, without path, query or password."""
    found = urlsplit(str(getattr(error, "kwargs", {}).get("endpoint_url", "")))
    return f"{found.scheme}://{found.netloc.rpartition('@')[2]}" if found.netloc else "its server"


def _first_line(error: BaseException) -> str:
    return _shortened(str(error)) or type(error).__name__


def _shortened(text: str) -> str:
    return (text.splitlines() or [""])[0][:SHOWN].rstrip(". ")
