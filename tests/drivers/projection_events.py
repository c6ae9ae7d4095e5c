"""Events for projections, the strange among them, and the connection that projects them."""

from datetime import UTC, datetime, timedelta

import asyncpg
from hypothesis import strategies as st

from projector.projections.projection import PLAN_SETTINGS
from tests.projections_one_by_one import NOON
from tests.servers import Servers

FIRST_MOMENT = datetime(1, 1, 1, tzinfo=UTC)
LAST_MOMENT = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


async def connect(servers: Servers) -> asyncpg.Connection:
    return await asyncpg.connect(servers.projector_url, server_settings={"timezone": "UTC", **PLAN_SETTINGS})


products = st.sampled_from(
    ["p-1", "p-2", "p-3", "ü-4", "q,\"{}\\'", "", "a\x1fb", "a\x85b", "x" * 256, "x" * 257, 7, None]
)
payloads = st.one_of(st.just({}), st.builds(lambda product: {"productId": product}, products))
times = st.one_of(
    st.sampled_from([FIRST_MOMENT, LAST_MOMENT, NOON, NOON - timedelta(microseconds=1), NOON + timedelta(hours=1)]),
    st.integers(-7200, 7200).map(lambda seconds: NOON + timedelta(seconds=seconds)),
)
