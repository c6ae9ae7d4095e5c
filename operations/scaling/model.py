"""What a rate of events needs: processes, partitions, cores and disks. Pure arithmetic on measured costs.

It adds up cores and bytes. It knows nothing of networks, of the latency of disks, or of what queries cost.
"""

import math
from collections.abc import Iterator

import msgspec

from operations.scaling.costs import MEASURED, Costs

USABLE = 0.6  # of a core at the peak: the rest is for rebuilds, restarts and what the model does not know
COPIES = 3  # of each partition
LEAST_PROCESSES = 2  # one may end
LEAST_PARTITIONS = 6
PARTITIONS_A_PROJECTOR = 2  # so that projectors can double without a new number of partitions
CORES_A_BROKER = 4
CORES_A_SERVER = 32  # of one PostgreSQL; beyond that, several
BYTES_A_SERVER = 8 * 10**12
DAY = 86_400  # seconds


class Load(msgspec.Struct, frozen=True):
    """What is to be borne. `rate`: events a second, the mean of a day. `peak`: how many times that at its height.

    `retention_days`: of the topic. `rows_days`: of the read model. `batched`: the share of events that are sent so.
    """

    rate: float
    retention_days: float
    rows_days: float
    peak: float = 3.0
    event_bytes: int = MEASURED.usual_bytes
    batched: float = 0.0


class Plan(msgspec.Struct, frozen=True):
    """What it needs. Cores are those that are busy at the peak, divided by `USABLE`."""

    peak_rate: float
    command_sides: int
    command_cores: float
    partitions: int
    projectors: int
    projector_cores: float
    brokers: int
    broker_cores: float
    log_bytes: float  # of all brokers
    postgresql_servers: int
    postgresql_cores: float  # of all servers
    row_bytes: float  # of all servers
    advice: list[str]


def plan(load: Load, costs: Costs = MEASURED) -> Plan:
    """Computes what a load needs."""
    peak = load.rate * load.peak
    one = load.batched * costs.batched_us + (1 - load.batched) * costs.post_us
    command, projector = cores(peak, one), cores(peak, costs.projector_us)
    broker, postgresql = cores(peak, costs.broker_us * COPIES), cores(peak, costs.postgresql_us)
    projectors = max(LEAST_PROCESSES, math.ceil(projector))
    stored = load.rate * DAY
    rows = stored * load.rows_days * row_bytes(load.event_bytes, costs)
    servers = max(1, math.ceil(postgresql / CORES_A_SERVER), math.ceil(rows / BYTES_A_SERVER))
    return Plan(
        peak_rate=peak,
        command_sides=max(LEAST_PROCESSES, math.ceil(command)),
        command_cores=command,
        partitions=max(LEAST_PARTITIONS, PARTITIONS_A_PROJECTOR * projectors),
        projectors=projectors,
        projector_cores=projector,
        brokers=max(COPIES, math.ceil(broker / CORES_A_BROKER)),
        broker_cores=broker,
        log_bytes=stored * load.retention_days * COPIES * costs.log_bytes * load.event_bytes / costs.usual_bytes,
        postgresql_servers=servers,
        postgresql_cores=postgresql,
        row_bytes=rows,
        advice=list(_advice(load, servers, one, costs)),
    )


def cores(rate: float, microseconds: float) -> float:
    """Cores that so many events a second need, each of so much work."""
    return rate * microseconds / 1e6 / USABLE


def row_bytes(event_bytes: int, costs: Costs) -> float:
    """Bytes of an event in PostgreSQL: its text is there twice, as event and as payload; indexes do not grow."""
    return max(0.0, costs.row_bytes + 2 * (event_bytes - costs.usual_bytes))


def most_of_one_loop(microseconds: float, costs: Costs = MEASURED) -> float:
    """Events a second at which a process of one event loop is full."""
    return costs.least_share * 1e6 / microseconds


def most_of_a_machine(machine_cores: float, costs: Costs = MEASURED) -> float:
    """Events a second at which a machine is full that runs broker, projectors and PostgreSQL together, one copy."""
    return machine_cores * 1e6 / (costs.broker_us + costs.projector_us + costs.postgresql_us)


def _advice(load: Load, servers: int, one: float, costs: Costs) -> Iterator[str]:
    if load.batched < 0.5 and cores(load.rate * load.peak, one) > 8:
        saved = 1 - costs.batched_us / costs.post_us
        yield f"Send batches (POST /events/generate/batch): they save {saved:.0%} of the command side's cores."
    if servers > 1:
        yield (
            f"One PostgreSQL is not enough: divide the tenants among {servers} topics, each with projectors and a"
            " database of its own, or keep fewer days of rows and read older events from the archive or a sink."
        )
    if load.rows_days < load.retention_days:
        yield "A rebuild reads the whole topic, and so makes rows of older events, too, until retention removes them."
    yield 'Measure your own machines before you buy: make bench ARGS="--only plan_points" compares them with the model.'
