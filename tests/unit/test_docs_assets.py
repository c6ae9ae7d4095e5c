"""The files of Swagger UI are those of npm's `swagger-ui-dist` 5.35.0, byte for byte."""

from hashlib import sha256

import pytest

from web.docs.assets import FILES, contents

PUBLISHED = {
    "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    "swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_file_is_as_it_was_published(name: str) -> None:
    assert sha256(contents(FILES / name, packed=False)).hexdigest() == PUBLISHED[name]
