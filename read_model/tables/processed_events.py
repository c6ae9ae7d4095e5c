"""Declares the read model's main tables. Only `migrations/` creates them; a test compares the two.

A generation is one complete set of tables with its own checkpoints, in its own schema (docs/decisions/0008). Queries
use the views in schema `read`.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from read_model.names import GENERATION

metadata = MetaData(schema=GENERATION)

processed_events = Table(
    "processed_events",
    metadata,
    # Columns of fixed width come first, so there is no padding between them and rows are smaller.
    Column("kafka_offset", BigInteger, nullable=False, comment="Offset of the record the event came in."),
    Column("occurred_at", DateTime(timezone=True), nullable=False, comment="When it happened (the event's timestamp)."),
    Column("recorded_at", DateTime(timezone=True), nullable=False, comment="When Kafka's record was made."),
    Column(
        "projected_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=text("now()"),
        comment="When the projector stored it.",
    ),
    Column("event_id", Uuid, nullable=False, comment="Unique id of the event."),
    Column("kafka_partition", Integer, nullable=False, comment="Partition of the record."),
    Column("kafka_topic", Text, nullable=False, comment="Topic of the record."),
    Column("user_id", Text, nullable=False, comment="Who acted."),
    Column(
        "event_type", Text, nullable=False, comment="What happened: a type of the catalogue, or one that was in it."
    ),
    Column("payload", JSONB, nullable=False, comment="Free-form details, for SQL."),
    Column("event_json", Text, nullable=False, comment="The event as queries answer it: rendered once, when stored."),
    Column("tenant_id", Text(collation="C"), nullable=False, comment="Whose event it is."),
    Column(
        "meaning",
        Text,
        nullable=False,
        server_default=text("''"),
        comment="opens_session, closes_session, views_product or nothing; empty: what its type's name says.",
    ),
    Column(
        "product_id",
        Text,
        nullable=False,
        server_default=text("''"),
        comment="Product of a view, where the meaning is not what its type's name says; else empty.",
    ),
    UniqueConstraint("tenant_id", "event_id", name="processed_events_event_id_key"),
    Index("processed_events_by_time", "tenant_id", "occurred_at", "event_id"),
    Index("processed_events_by_user", "tenant_id", "user_id", "occurred_at", "event_id"),
    Index(
        "processed_events_by_product",
        "tenant_id",
        text("(payload ->> 'productId')"),
        "occurred_at",
        "event_id",
        postgresql_where=text("event_type = 'PRODUCT_VIEW' AND length(payload ->> 'productId') <= 256"),
    ),
    Index(
        "processed_events_by_declared_product",
        "tenant_id",
        "product_id",
        "occurred_at",
        "event_id",
        postgresql_where=text("product_id <> ''"),
    ),
    Index("processed_events_by_position", "kafka_partition", "kafka_offset"),
    Index(
        "processed_events_by_tenant_position",
        "tenant_id",
        "kafka_partition",
        "kafka_offset",
        postgresql_where=text("tenant_id <> 'default'"),
    ),
    comment="Every event, exactly once.",
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("next_offset", BigInteger, nullable=False, comment="The next offset to process."),
    Column("epoch", BigInteger, nullable=False, comment="Raised by each new owner; an older owner can change nothing."),
    Column("owner", Text, nullable=False, comment="Who projects this partition: host, process, start."),
    Column("stored", BigInteger, nullable=False, server_default=text("0"), comment="Events stored."),
    Column(
        "duplicates", BigInteger, nullable=False, server_default=text("0"), comment="Records skipped as duplicates."
    ),
    Column("malformed", BigInteger, nullable=False, server_default=text("0"), comment="Records skipped as malformed."),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("stopped_reason", Text, comment="Why its owner stopped; null while it goes on."),
    Column("stopped_at", DateTime(timezone=True), comment="Since when it stands still."),
    Column("topic_id", Uuid, comment="The topic that the offset counts in (Kafka's id); null where Kafka gives none."),
    Column("last_record", BigInteger, comment="Fingerprint of the record before next_offset; null before the first."),
    Column(
        "event_types", Text, comment="Digest of the owner's catalogue of event types; null before an owner told it."
    ),
    PrimaryKeyConstraint("topic", "partition", name="checkpoints_pkey"),
    comment="Where each partition stands; moved in the same transaction as the rows.",
)
