"""What a projection is: a pure fold from new events to change rows, and the SQL that merges them into its tables.

A projection names one or more *change tables*. Its fold turns a batch's new events into the rows of each; PostgreSQL
receives them as one array a column, and the projection's steps, which are CTEs, read them by the table's name. So every
projection is one statement by itself, and any number of them is one statement too: a small batch costs one round trip.

Rules that keep projections exact, quick and free of deadlocks:

- every key begins with `tenant_id` and holds `kafka_partition`: a partition has one writer at a time (the fence in
  `commit.py`), so no two transactions meet on a row, and what a step reads cannot change before it writes;
- change rows are sorted by key, so rows are written in the same order everywhere;
- the fold knows nothing but its events, and merging the changes of two batches one after the other equals merging the
  changes of both at once: a rebuild with other batch boundaries gives the same rows;
- a step reads a stored table only by its whole key, and never joins two change tables: see `PLAN_SETTINGS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from projector.projections.event_batch import EventBatch
from read_model.names import GENERATION

ChangeRows = Sequence[tuple[object, ...]]
Fold = Callable[[EventBatch], tuple[ChangeRows, ...]]

# Settings of a session that runs these statements: planned once, and always with one index lookup a change row. Left to
# itself, the planner reads a table it has seen empty from end to end, and keeps that plan while the table grows.
PLAN_SETTINGS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}

# asyncpg sends the last and the first moment that Python knows as infinity.
FINITE = """CASE {column} WHEN 'infinity' THEN timestamptz '9999-12-31 23:59:59.999999+00'
         WHEN '-infinity' THEN timestamptz '0001-01-01 00:00:00+00' ELSE {column} END AS {column}"""

ALWAYS = "true"  # the guard of a statement that nothing can stop


@dataclass(frozen=True)
class ChangeTable:
    """The shape of what a fold returns: `name`, as steps call it, and its columns with their PostgreSQL types.

    No column may be an array itself (`unnest` would flatten it); join texts with `SEPARATOR` instead.
    """

    name: str
    columns: dict[str, str]


@dataclass(frozen=True)
class Projection:
    """One read model. `fold` returns the rows of each of `changes`, sorted by key, without two of the same key.

    `tables` are its tables in a generation's schema. `steps` are (name, SQL) of the CTEs that apply the changes, in
    which `{generation}` stands for that schema. Names of change tables and steps are unique over all projections.
    """

    name: str
    tables: tuple[str, ...]
    changes: tuple[ChangeTable, ...]
    fold: Fold
    steps: tuple[tuple[str, str], ...]


def statement(projections: Sequence[Projection], generation: str = GENERATION) -> str:
    """One statement that applies the changes of all `projections`; its parameters are `arguments(..)` of the same."""
    return f"WITH {ctes(projections, generation=generation)}\nSELECT"


def ctes(
    projections: Sequence[Projection], *, first: int = 1, guard: str = ALWAYS, generation: str = GENERATION
) -> str:
    """The CTEs of `statement`, for use in a larger one: parameters begin at `$first`; no change unless `guard`."""
    parts: list[str] = []
    for projection in projections:
        for table in projection.changes:
            parts.append(f"{table.name} AS (\n    {_select(table, first, guard)}\n)")
            first += len(table.columns)
        parts += [f"{name} AS ({sql.format(generation=generation)})" for name, sql in projection.steps]
    return ", ".join(parts)


def arguments(projections: Sequence[Projection], batch: EventBatch) -> list[Sequence[object]]:
    """The folded events as one array for each column of each change table."""
    found: list[Sequence[object]] = []
    for projection in projections:
        for table, changes in zip(projection.changes, projection.fold(batch), strict=True):
            found += zip(*changes, strict=True) if changes else [()] * len(table.columns)
    return found


def _select(table: ChangeTable, first: int, guard: str) -> str:
    columns = [FINITE.format(column=name) if kind == "timestamptz" else name for name, kind in table.columns.items()]
    arrays = ", ".join(f"${first + index}::{kind}[]" for index, kind in enumerate(table.columns.values()))
    return f"SELECT {', '.join(columns)} FROM unnest({arrays}) AS change({', '.join(table.columns)}) WHERE {guard}"
