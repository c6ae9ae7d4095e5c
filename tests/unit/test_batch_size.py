"""A batch becomes smaller after what was too much, and larger again while it goes well."""

import pytest

from projector.consuming.batch_size import BatchSize


def fill(size: BatchSize, bearable: int, records: int) -> tuple[int, int]:
    """Takes so many records in batches of the limit, of which at most `bearable` go well; (failures, batches)."""
    failed = batches = 0
    while records > 0:
        now = min(size.limit, records)
        batches += 1
        if now > bearable and now > 1:
            failed += 1
            size.failed(now)
        else:
            records -= now
            size.succeeded(now)
    return failed, batches


@pytest.mark.parametrize("bearable", [1, 7, 200, 4_000, 8_000])
def test_it_finds_what_goes_well_and_stays_near_it(bearable: int) -> None:
    size = BatchSize(8_000)
    failed, batches = fill(size, bearable, bearable * 100)
    assert batches <= 300  # at least a third of what would be possible
    assert failed <= 13 + batches / 4
    assert size.limit <= max(2, bearable * 9 / 8)


def test_it_comes_back_to_the_full_size_within_a_few_batches() -> None:
    size = BatchSize(8_000)
    while size.limit > 1:
        size.failed(size.limit)
    assert fill(size, 8_000, 200_000)[1] < 80
    assert size.limit == 8_000


def test_a_batch_that_is_not_full_says_nothing() -> None:
    size = BatchSize(8_000)
    size.failed(8_000)
    for _ in range(100):
        size.succeeded(3_999)
    assert size.limit == 4_000
    size.failed(2)
    assert size.limit == 1
    size.failed(1)
    assert size.limit == 1
