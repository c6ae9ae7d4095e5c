"""Where uvicorn is reached into: it must look as it is known, and a server must refuse to start with any other."""

import hashlib
import inspect
import tomllib
from pathlib import Path

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from web.middleware import Middleware
from web.protocol import known_uvicorn
from web.protocol.bounded_http import BoundedHttp
from web.protocol.fast_path import FastHttp
from web.protocol.known_uvicorn import METHODS, UnknownUvicornError, differences, require_known_uvicorn
from web.protocol.request_framing import PipelinedHttp
from web.server import server_of

# Of the source text of the three classes. After an upgrade: read what changed in them, then note the new one.
KNOWN_TEXT = "1f0ad26f71ba02a760f1965589e05ae7e93ec5eb5a25b6c0d796f71630a3a051"


def test_it_is_as_it_is_known() -> None:
    assert differences() == []
    require_known_uvicorn()


def test_the_text_of_what_is_overridden_is_the_one_that_was_read() -> None:
    text = "".join(map(inspect.getsource, (HttpToolsProtocol, RequestResponseCycle, FlowControl)))
    assert hashlib.sha256(text.encode()).hexdigest() == KNOWN_TEXT


def test_every_method_that_is_overridden_is_watched() -> None:
    theirs = {name for name, value in vars(HttpToolsProtocol).items() if callable(value) and name != "__init__"}
    ours = {name for kind in (BoundedHttp, FastHttp, PipelinedHttp) for name in vars(kind)}
    assert ours & theirs <= set(METHODS[HttpToolsProtocol])


def test_another_release_is_refused_by_every_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_uvicorn, "version", lambda _: "0.55.0")
    assert differences() == ["its version is 0.55.0"]
    with pytest.raises(UnknownUvicornError, match=r"0\.55\.0"):
        server_of(Middleware(None, "test", {}), "127.0.0.1", 0, 1)  # type: ignore[arg-type]


def test_what_is_gone_or_takes_other_arguments_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HttpToolsProtocol, "on_body", lambda self, body, end: None)
    monkeypatch.delattr(HttpToolsProtocol, "_unsupported_upgrade_warning")
    monkeypatch.setitem(known_uvicorn.ATTRIBUTES, RequestResponseCycle, {"more_body", "no_such"})
    assert differences() == [
        "HttpToolsProtocol.on_body takes (self, body, end)",
        "HttpToolsProtocol._unsupported_upgrade_warning is gone",
        "RequestResponseCycle.no_such is gone",
    ]


def test_the_upper_bound_of_the_dependency_is_the_known_release() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    [uvicorn] = [each for each in project["dependencies"] if each.startswith("uvicorn")]
    assert uvicorn == "uvicorn>=0.54,<0.55"
