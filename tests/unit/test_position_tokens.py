"""The texts of positions: plain for the default tenant, sealed for the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_side.api.responses import where
from command_side.publishing.event_log import Acknowledged
from contracts.event import DEFAULT_TENANT
from contracts.record import key_of
from query_side.log_positions.positions import DEFAULT_WAIT, MAX_WAIT, TenantPositions, positions_of, wait_of
from web.policies import principal
from web.policies.decisions import RefusedError
from web.tenants.position_tokens import PositionTokens

TOKENS = PositionTokens("a secret of these tests")
PARTITIONS, OFFSETS = st.integers(0, 999_999), st.integers(0, 10**18 - 1)
TENANTS = st.sampled_from(["acme", "acme2", "Default", "d"])


def test_the_rooms_mean_the_same_default_tenant() -> None:
    assert principal.DEFAULT_TENANT == DEFAULT_TENANT


@given(PARTITIONS, OFFSETS)
def test_the_default_tenants_positions_are_plain(partition: int, offset: int) -> None:
    text = f"{partition}-{offset}"
    for tokens in (TOKENS, PositionTokens("")):
        assert tokens.text("default", partition, offset) == text
        assert tokens.read("default", text) == (partition, offset)


@given(TENANTS, TENANTS, PARTITIONS, OFFSETS)
def test_a_sealed_position_opens_for_its_tenant_only(mine: str, other: str, partition: int, offset: int) -> None:
    text = TOKENS.text(mine, partition, offset)
    assert text is not None
    assert len(text) == 59  # whatever it says
    assert TOKENS.read(mine, text) == (partition, offset)
    assert TOKENS.read("default", text) is None
    assert PositionTokens("another secret than that").read(mine, text) is None
    if other != mine:
        assert TOKENS.read(other, text) is None


def test_two_texts_of_one_position_differ_so_that_none_says_that_nobody_wrote() -> None:
    assert len({TOKENS.text("acme", 3, 7) for _ in range(10)}) == 10


@given(PARTITIONS, OFFSETS, st.integers(0, 58), st.sampled_from("AZaz09-_"))
def test_a_changed_text_is_refused(partition: int, offset: int, at: int, letter: str) -> None:
    text = TOKENS.text("acme", partition, offset)
    assert text is not None
    changed = text[:at] + letter + text[at + 1 :]
    assert changed == text or TOKENS.read("acme", changed) is None


@pytest.mark.parametrize("text", ["3-7", "", "A" * 59, "A" * 38, "é" * 59, "A" * 4_000])
def test_another_tenant_cannot_name_a_position_that_it_was_not_given(text: str) -> None:
    assert TOKENS.read("acme", text) is None
    assert PositionTokens("").read("acme", text) is None


def test_without_a_secret_other_tenants_get_no_positions() -> None:
    nothing = PositionTokens("")
    assert nothing.text("acme", 3, 7) is None
    assert where(b"id", Acknowledged(3, 7), "acme", nothing) == b"location: /events/id\r\n"
    with pytest.raises(RefusedError) as refused:
        positions_of(b"position=3-7", [], TenantPositions(nothing, "acme"))
    assert refused.value.answer.status == 400
    assert "POSITION_SECRET" in refused.value.answer.problems[0]


def test_another_secret_alone_is_none() -> None:
    """Else a position could be waited for, and no answer could say which."""
    nothing = PositionTokens("", also="a secret of these tests")
    text = TOKENS.text("acme", 3, 7)
    assert text is not None
    assert not nothing.gives_any("acme")
    assert nothing.read("acme", text) is None


USERS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8)


@given(st.tuples(st.sampled_from(["default", "acme", "a", "ac"]), USERS | st.sampled_from(["acme/bob", "bob"])))
def test_no_two_users_of_any_tenants_share_a_key(whose: tuple[str, str]) -> None:
    tenant, _, user = key_of(*whose).decode().rpartition("\x1f")
    assert (tenant or "default", user) == whose


@pytest.mark.parametrize(
    ("preferred", "seconds"),
    [
        (b"wait=0.5", 0.5),
        (b'respond-async, wait="0.25"; x', 0.25),
        (b"wait = 2", 2.0),
        (b"wait=1e9", DEFAULT_WAIT),
        (b"wait=3600", MAX_WAIT),
        (b"wait=-1", DEFAULT_WAIT),
        (b"wait=", DEFAULT_WAIT),
    ],
)
def test_a_preferred_wait_is_of_seconds_and_their_fractions(preferred: bytes, seconds: float) -> None:
    assert wait_of([(b"prefer", preferred)]) == seconds
