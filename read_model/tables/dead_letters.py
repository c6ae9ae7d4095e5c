"""Declares the table of dead letters, of which each generation has one."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

from read_model.tables.processed_events import metadata

# A producer may write any bytes into the header. They are escaped to be text, and cut to fit into an index.
EVENT_ID = "left(encode(header_values[array_position(header_names, 'event-id')], 'escape'), 64)"

# The tenant that a record's key names, before U+001F; a key without one is the default tenant's (contracts/record.py).
# An emptied letter keeps that much of its key. Those that earlier releases emptied have no key: they are nobody's.
TENANT_OF_KEY = r"""CASE WHEN record_key IS NULL AND record_value IS NULL THEN ''
     WHEN position('\x1f'::bytea IN record_key) > 0
     THEN encode(substring(record_key FROM 1 FOR position('\x1f'::bytea IN record_key) - 1), 'escape')
     ELSE 'default' END"""

_KEY = ("kafka_topic", "kafka_partition", "kafka_offset")

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("kafka_offset", BigInteger, nullable=False, comment="Offset of the record."),
    Column("recorded_at", DateTime(timezone=True), nullable=False, comment="When Kafka's record was made."),
    Column(
        "parked_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=text("now()"),
        comment="When it was set aside.",
    ),
    Column("behind_offset", BigInteger, comment="Offset of the first parked record of its key, which it waits behind."),
    Column("published_at", DateTime(timezone=True), comment="When it was published to the dead-letter topic."),
    Column("resolved_at", DateTime(timezone=True), comment="When it was redriven or discarded."),
    Column("kafka_partition", Integer, nullable=False, comment="Partition of the record."),
    Column("attempts", Integer, nullable=False, server_default=text("1"), comment="How often it was tried."),
    Column("kafka_topic", Text, nullable=False, comment="Topic of the record."),
    Column("cause", Text, nullable=False, comment="poison, newer_version, or behind: it waits for an earlier one."),
    Column(
        "state",
        Text,
        nullable=False,
        server_default=text("'parked'"),
        comment="parked, redriven (its event is applied) or discarded.",
    ),
    Column("error_class", Text, nullable=False, comment="The kind of error."),
    Column("error_message", Text, nullable=False, comment="What was wrong, in words; nothing of the value."),
    Column("user_id", Text, comment="The user, as the key names them; null without a readable key."),
    Column("resolved_by", Text, comment="Who redrove or discarded it."),
    Column("record_key", LargeBinary, comment="The record's key, byte for byte."),
    Column("record_value", LargeBinary, comment="The record's value, byte for byte."),
    Column("header_names", ARRAY(Text), nullable=False, comment="Names of the record's headers, in order."),
    Column("header_values", ARRAY(LargeBinary), nullable=False, comment="Their values, in the same order."),
    PrimaryKeyConstraint(*_KEY, name="dead_letters_pkey"),
    CheckConstraint("cause IN ('poison', 'newer_version', 'behind')", name="dead_letters_cause"),
    CheckConstraint("state IN ('parked', 'redriven', 'discarded')", name="dead_letters_state"),
    Index("dead_letters_parked", *_KEY, postgresql_where=text("state = 'parked'")),
    Index("dead_letters_by_event", text(f"({EVENT_ID})")),
    Index("dead_letters_unpublished", *_KEY, postgresql_where=text("published_at IS NULL")),
    comment="Records that could not be applied, and those parked behind them, as they came.",
)
