"""uvicorn as `BoundedHttp` and `FastHttp` know it: what they override and reach into must be there, and be the same.

They override methods that uvicorn does not promise to keep. A release in which one of them is called at another moment
could answer one request with another's answer. So the version has an upper bound (pyproject.toml), and a server does
not start with a uvicorn that looks otherwise. `tests/unit/test_known_uvicorn.py` also compares the text of what is
overridden: after an upgrade, read what changed, then note the new digest there.
"""

import inspect
from collections.abc import Mapping
from importlib.metadata import version

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

KNOWN_RELEASE = "0.54."

# By class: the parameters of each method that is overridden or called, without `self`.
METHODS: Mapping[type, Mapping[str, tuple[str, ...]]] = {
    HttpToolsProtocol: {
        "connection_made": ("transport",),
        "connection_lost": ("exc",),
        "eof_received": (),
        "data_received": ("data",),
        "on_message_begin": (),
        "on_url": ("url",),
        "on_header": ("name", "value"),
        "on_headers_complete": (),
        "on_body": ("body",),
        "on_message_complete": (),
        "on_response_complete": (),
        "send_400_response": ("msg",),
        "_unsupported_upgrade_warning": (),
        "_start_asgi_task": ("cycle", "app"),
        "shutdown": (),
        "pause_writing": (),
        "resume_writing": (),
    },
    RequestResponseCycle: {"run_asgi": ("app",), "send": ("message",), "receive": ()},
    FlowControl: {"pause_reading": (), "resume_reading": ()},
}

# By class: the attributes that are read or set.
ATTRIBUTES: Mapping[type, set[str]] = {
    HttpToolsProtocol: {
        *("app_state", "client", "connections", "cycle", "expect_100_continue", "flow", "headers", "loop", "parser"),
        *("pipeline", "scheme", "scope", "server_state", "timeout_keep_alive", "transport"),
    },
    RequestResponseCycle: {
        *("body", "chunked_encoding", "disconnected", "expected_content_length", "keep_alive", "message_event"),
        *("more_body", "response_complete", "response_started", "scope", "waiting_for_100_continue"),
    },
}


class UnknownUvicornError(RuntimeError):
    """uvicorn is not as the server knows it."""


def require_known_uvicorn() -> None:
    """Raises UnknownUvicornError with everything that is different."""
    found = differences()
    if found:
        raise UnknownUvicornError(f"this uvicorn is not {KNOWN_RELEASE}x as the server knows it: {'; '.join(found)}")


def differences() -> list[str]:
    """What is not as it was known, in words; empty when nothing is."""
    release = version("uvicorn")
    found = [] if release.startswith(KNOWN_RELEASE) else [f"its version is {release}"]
    for owner, methods in METHODS.items():
        for name, known in methods.items():
            method = getattr(owner, name, None)
            if method is None:
                found.append(f"{owner.__name__}.{name} is gone")
            elif tuple(inspect.signature(method).parameters)[1:] != known:
                found.append(f"{owner.__name__}.{name} takes {inspect.signature(method)}")
    for owner, attributes in ATTRIBUTES.items():
        gone = attributes - set(inspect.unwrap(vars(owner)["__init__"]).__code__.co_names)
        found += [f"{owner.__name__}.{name} is gone" for name in sorted(gone)]
    return found
