"""`footfall up` is ready enough to explain what stands still: the way on needs the servers that it runs."""

import json

from footfall.local.running import standing_still


def ready(**details: str) -> bytes:
    dependencies = {name: {"ok": not detail, "detail": detail} for name, detail in details.items()}
    return json.dumps({"status": "unavailable", "dependencies": dependencies}).encode()


def test_partitions_that_stand_still_are_explained_and_nothing_else_is() -> None:
    why = "stopped partitions: 0: another_history: .. `footfall rebuild start`"
    assert standing_still(ready(kafka="", postgres="", partitions=why)) == why
    assert standing_still(ready(kafka="no answer", postgres="", partitions=why)) is None
    assert standing_still(ready(kafka="", partitions="not connected yet")) is None
    assert standing_still(ready(kafka="no answer")) is None
    for strange in (b"", b"[]", b"{}", b'{"dependencies": 3}', b'{"dependencies": {"partitions": {}}}', b"\xff"):
        assert standing_still(strange) is None
