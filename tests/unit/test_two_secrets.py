"""While a secret is changed, both the old and the new one are accepted, and a third is not."""

import pytest

from query_side.log_positions.cursors import Cursors
from web.tenants.position_tokens import PositionTokens

OLD, NEW, THIRD = "the secret of yesterday", "the secret of tomorrow", "the secret of nobody"


@pytest.mark.parametrize("tenant", ["default", "acme"])
def test_cursors_of_either_secret_are_opened(tenant: str) -> None:
    before, after = Cursors(OLD.encode(), NEW.encode()).of(tenant), Cursors(NEW.encode(), OLD.encode()).of(tenant)
    for seals, opens in ((before, after), (after, before), (before, before), (after, after)):
        assert opens.open(seals.seal(b"payload", b"query"), b"query") == b"payload"
        assert opens.open(seals.seal(b"payload", b"query"), b"another") is None
    assert after.open(Cursors(THIRD.encode()).of(tenant).seal(b"payload", b"query"), b"query") is None
    assert Cursors(NEW.encode()).of(tenant).open(before.seal(b"payload", b"query"), b"query") is None


def test_positions_of_either_secret_are_read() -> None:
    before, after = PositionTokens(OLD, NEW), PositionTokens(NEW, OLD)
    for writes, reads in ((before, after), (after, before)):
        text = writes.text("acme", 3, 1_700)
        assert text is not None
        assert reads.read("acme", text) == (3, 1_700)
        assert reads.read("other", text) is None
        assert PositionTokens(THIRD).read("acme", text) is None
