"""PostgreSQL's COPY text becomes lines, and the elements of a JSON array."""

import json

from hypothesis import given
from hypothesis import strategies as st

from query_side.events.formats import JsonArray
from query_side.events.queries import unescaped

texts = st.text() | st.sampled_from(["\\", "\\\\", "\\N", "\\.", "\n", '"', "\\u0000", "\\n"])


def copied(documents: list[str]) -> bytes:
    """Rows as COPY writes them: backslashes doubled, a newline after each (PostgreSQL manual, COPY, Text Format)."""
    return "".join(document.replace("\\", "\\\\") + "\n" for document in documents).encode("utf-8", "surrogatepass")


@given(st.lists(st.dictionaries(texts, texts, max_size=4), min_size=1, max_size=5), st.booleans())
def test_rows_become_elements(rows: list[dict[str, str]], ascii_only: bool) -> None:
    documents = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    lines = unescaped(copied(documents))
    assert lines == "".join(f"{document}\n" for document in documents).encode()
    array = JsonArray()
    assert json.loads(array.rows(lines) + array.end()) == rows
