"""A module is named after a concept of this field and stays small enough to be read at once."""

import ast
import re
from pathlib import Path

from tests.architecture.repository import ROOMS, ROOT, modules

EMPTY_NAMES = {"service", "manager", "util", "utils", "helper", "helpers", "common", "core", "base", "misc", "shared"}
BESIDE = ("bench", "chaos")  # no rooms
MAX_LINES = 300
MAX_MODULES = 12  # in one folder


def test_no_module_or_package_has_a_name_that_says_nothing() -> None:
    # `event_service.py` and `KafkaManager`-like compounds say as little as `service.py`.
    nameless = [
        str(path)
        for path in all_modules()
        if any(EMPTY_NAMES & set(part.lower().split("_")) for part in path.with_suffix("").parts)
    ]
    assert not nameless, f"name these after what they hold: {nameless}"


def all_modules() -> list[Path]:
    """The modules of the rooms, of what `make bench` measures and of what `make chaos` does."""
    return [*modules(), *(path.relative_to(ROOT) for name in BESIDE for path in sorted((ROOT / name).rglob("*.py")))]


def test_no_module_is_longer_than_300_lines() -> None:
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in all_modules()}
    too_long = {path: lines for path, lines in lengths.items() if lines > MAX_LINES}
    assert not too_long, f"one idea a module, at most {MAX_LINES} lines: {too_long}"


def test_no_folder_holds_more_than_a_dozen_modules() -> None:
    folders = {
        str(folder.relative_to(ROOT)): len(modules)
        for room in (*ROOMS, *BESIDE)
        for folder in [ROOT / room, *(path for path in (ROOT / room).rglob("*") if path.is_dir())]
        if folder.parts[-2:] != ("migrations", "versions")  # a chain has one job, however long it is
        and len(modules := [path for path in folder.glob("*.py") if path.name != "__init__.py"]) > MAX_MODULES
    }
    assert not folders, f"these folders hold several jobs: {folders}"


def test_a_room_declares_its_settings_in_one_module() -> None:
    # footfall/ is the composition root: it loads what the rooms declare.
    readers = [
        str(path)
        for path in modules()
        if _imports("pydantic_settings", path) and path.name != "settings.py" and path.parts[0] != "footfall"
    ]
    assert not readers, f"a process reads the environment once, as its settings.py declares: {readers}"


def test_there_is_something_to_look_at() -> None:
    assert len(modules()) >= 8
    assert all(re.fullmatch(r"[a-z0-9_/]+\.py", str(path)) for path in modules())


def _imports(package: str, path: Path) -> bool:
    tree = ast.parse((ROOT / path).read_text())
    return any(
        (isinstance(node, ast.Import) and any(name.name.split(".")[0] == package for name in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package)
        for node in ast.walk(tree)
    )
