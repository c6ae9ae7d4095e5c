"""docs/cryptography.md names every module that uses cryptography, and no other."""

import ast
import re

from tests.architecture.repository import ROOMS, ROOT

LIBRARIES = {"hashlib", "hmac", "ssl", "secrets", "cryptography", "joserfc", "Crypto", "jwt", "nacl"}
NAMED = re.compile(r"`([a-z_/]+\.py)`")


def uses_cryptography(source: str) -> bool:
    """Whether a module imports one of the libraries."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import) and any(each.name.split(".")[0] in LIBRARIES for each in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
            return True
    return False


def test_the_page_names_every_module_that_uses_cryptography() -> None:
    page = (ROOT / "docs" / "cryptography.md").read_text().replace("tests/architecture/test_cryptography.py", "")
    used = {
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if uses_cryptography(path.read_text())
    }
    assert set(NAMED.findall(page)) == used
