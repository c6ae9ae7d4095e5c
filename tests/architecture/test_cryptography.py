"""docs/cryptography.md names every module that uses cryptography, and no other."""

import ast
import re

from footfall.processes.secrets.secret_files import is_secret
from footfall.settings_page import READERS
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


def test_the_policy_of_keys_has_a_whole_row_for_each_secret_setting() -> None:
    policy = (ROOT / "docs" / "cryptography.md").read_text().partition("## The policy of keys")[2]
    lines = [line for line in policy.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert all(len(row) == len(rows[0]) and all(row) for row in rows)
    secrets = {
        name for settings in READERS.values() for name, field in settings.model_fields.items() if is_secret(field)
    }
    keys = {name for settings in READERS.values() for name in settings.model_fields if name.endswith("_key_file")}
    named = set(re.findall(r"`([A-Z0-9_]+)`", " ".join(row[0] for row in rows)))
    assert {name.upper() for name in secrets | keys} - named == set()
