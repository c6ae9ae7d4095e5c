"""Keys go where Kafka's own clients send them."""

from collections import Counter

import pytest
from aiokafka.partitioner import DefaultPartitioner

from command_side.publishing.produce_round import partition_chooser

# From Apache Kafka's UtilsTest.testMurmur2: key and 32-bit hash, as Java's signed integer.
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("partitions", [1, 2, 6, 97])
@pytest.mark.parametrize(("key", "murmur2"), JAVA.items())
def test_a_key_goes_where_java_sends_it(key: bytes, murmur2: int, partitions: int) -> None:
    choose = partition_chooser(partitions)
    assert choose(key) == (murmur2 & 0x7FFFFFFF) % partitions  # BuiltInPartitioner.partitionForKey
    assert choose(key) == choose(key)


def test_aiokafkas_own_producers_agree() -> None:
    choose, partitions = partition_chooser(6), list(range(6))
    for number in range(500):
        key = f"user-{number}".encode()
        assert choose(key) == DefaultPartitioner()(key, partitions, partitions)


def test_users_spread_over_all_partitions() -> None:
    choose = partition_chooser(6)
    spread = Counter(choose(f"user-{number}".encode()) for number in range(6_000))
    assert set(spread) == set(range(6))
    assert max(spread.values()) < 1_300
