"""The console's two libraries are those of npm, byte for byte, with their licences."""

import hashlib

import pytest

from console.assets_route import FILES

OF_NPM = {
    # htmx.org 2.0.11, dist/htmx.min.js, 0BSD
    "htmx.min.js": "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
    "htmx.LICENSE": "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38",
    # uplot 1.6.32, dist/uPlot.iife.min.js and dist/uPlot.min.css, MIT
    "uplot.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uplot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uplot.LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}


@pytest.mark.parametrize("name", OF_NPM)
def test_a_library_is_what_npm_has(name: str) -> None:
    assert hashlib.sha256((FILES / name).read_bytes()).hexdigest() == OF_NPM[name]


def test_everything_together_is_light() -> None:
    assert sum(path.stat().st_size for path in FILES.glob("*.*s*") if "LICENSE" not in path.name) < 200_000
