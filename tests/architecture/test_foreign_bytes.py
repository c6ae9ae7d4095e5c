"""Whoever reads bytes of others expects text that is no UTF-8, too: msgspec has another error for it."""

import ast
from collections.abc import Iterator

from tests.architecture.repository import ROOT, modules

OF_MSGSPEC = {"DecodeError", "MsgspecError"}
OF_BAD_TEXT = {"UnicodeDecodeError", "UnicodeError", "ValueError", "Exception"}


def handled(tree: ast.AST) -> Iterator[tuple[int, set[str]]]:
    """The names of each `except` and `suppress`, with the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is not None:
            yield node.lineno, names([node.type])
        elif isinstance(node, ast.Call) and names([node.func]) == {"suppress"}:
            yield node.lineno, names(node.args)


def names(nodes: list[ast.expr]) -> set[str]:
    found = [one for node in nodes for one in ast.walk(node)]
    attributes = {one.attr for one in found if isinstance(one, ast.Attribute)}
    return (attributes or set()) | {one.id for one in found if isinstance(one, ast.Name) and one.id != "msgspec"}


def test_whoever_expects_bytes_that_are_no_json_expects_bytes_that_are_no_text() -> None:
    forgetful = [
        f"{path}:{line}"
        for path in modules()
        for line, caught in handled(ast.parse((ROOT / path).read_text()))
        if caught & OF_MSGSPEC and not caught & OF_BAD_TEXT
    ]
    assert not forgetful
