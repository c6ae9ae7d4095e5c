"""`make bench` passes on every machine: a goal of time is a ratio to work of the same run."""

import ast

from tests.architecture.repository import ROOT

ABSOLUTE_GOALS = {"errors", "events", "MiB"}  # what a slow machine changes nothing about


def test_no_goal_is_an_absolute_time_or_rate() -> None:
    found = [
        (path.name, node)
        for path in sorted((ROOT / "bench").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "absolute"
    ]
    assert len(found) >= 10
    with_goals = [(name, node) for name, node in found if len(node.args) > 3 or node.keywords]
    units = {f"{name}:{node.lineno}": ast.literal_eval(node.args[1]) for name, node in with_goals}
    assert {place: unit for place, unit in units.items() if unit not in ABSOLUTE_GOALS} == {}
