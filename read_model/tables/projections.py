"""Declares the tables of the projections beside `processed_events`."""

from sqlalchemy import ARRAY, BigInteger, Boolean, Column, DateTime, Integer, PrimaryKeyConstraint, Table, Text, Uuid

from read_model.tables.processed_events import metadata

user_activity = Table(
    "user_activity",
    metadata,
    Column("first_seen", DateTime(timezone=True), nullable=False, comment="The least timestamp."),
    Column("last_seen", DateTime(timezone=True), nullable=False, comment="The greatest timestamp."),
    Column("logins", BigInteger, nullable=False, comment="Events that open a session: LOGIN."),
    Column("logouts", BigInteger, nullable=False, comment="Events that close a session: LOGOUT."),
    Column("product_views", BigInteger, nullable=False, comment="Events that view a product: PRODUCT_VIEW."),
    Column(
        "last_login_at", DateTime(timezone=True), comment="Timestamp of the latest opening of a session in the log."
    ),
    Column("changed_at", DateTime(timezone=True), comment="Timestamp of that opening or closing."),
    Column("last_product_at", DateTime(timezone=True), comment="Timestamp of that view."),
    Column(
        "kafka_partition",
        Integer,
        nullable=False,
        comment="The partition that these rows come from; its owner alone writes them.",
    ),
    Column(
        "logged_in",
        Boolean,
        comment="Whether the latest opening or closing in the log is an opening; null before either.",
    ),
    Column("tenant_id", Text, nullable=False, comment="Whose data it is."),
    Column("user_id", Text, nullable=False, comment="Who acted."),
    Column("last_product_id", Text, comment="Product of the latest view of a product in the log."),
    PrimaryKeyConstraint("tenant_id", "user_id", "kafka_partition", name="user_activity_pkey"),
    comment="What each user did, for each partition.",
)

user_activity_types = Table(
    "user_activity_types",
    metadata,
    Column("events", BigInteger, nullable=False, comment="How many."),
    Column(
        "kafka_partition",
        Integer,
        nullable=False,
        comment="The partition that these rows come from; its owner alone writes them.",
    ),
    Column("tenant_id", Text, nullable=False, comment="Whose data it is."),
    Column("user_id", Text, nullable=False, comment="Who acted."),
    Column("event_type", Text, nullable=False, comment="The type."),
    Column("meaning", Text, nullable=False, comment="opens_session, closes_session, views_product or nothing."),
    PrimaryKeyConstraint(
        "tenant_id", "user_id", "kafka_partition", "event_type", "meaning", name="user_activity_types_pkey"
    ),
    comment="How often each user did what no column of user_activity counts by itself, for each partition.",
)

user_sessions = Table(
    "user_sessions",
    metadata,
    Column("started_at", DateTime(timezone=True), nullable=False, comment="Timestamp of the LOGIN."),
    Column(
        "ended_at",
        DateTime(timezone=True),
        nullable=False,
        comment="Timestamp of what ended it; clocks may make it earlier than the start.",
    ),
    Column("views", BigInteger, nullable=False, comment="PRODUCT_VIEW events."),
    Column("session_id", Uuid, nullable=False, comment="Event id of the LOGIN."),
    Column(
        "kafka_partition",
        Integer,
        nullable=False,
        comment="The partition that these rows come from; its owner alone writes them.",
    ),
    Column("ended_by", Text, nullable=False, comment="LOGOUT, or LOGIN: the next one."),
    Column("tenant_id", Text, nullable=False, comment="Whose data it is."),
    Column("user_id", Text, nullable=False, comment="Who was logged in."),
    Column(
        "products",
        ARRAY(Text),
        nullable=False,
        comment="The different products, in the order they first were seen; a 201st says that there are more.",
    ),
    PrimaryKeyConstraint("tenant_id", "user_id", "kafka_partition", "session_id", name="user_sessions_pkey"),
    comment="Sessions that ended; rows never change.",
)

user_sessions_open = Table(
    "user_sessions_open",
    metadata,
    Column("started_at", DateTime(timezone=True), nullable=False, comment="Timestamp of the LOGIN."),
    Column("views", BigInteger, nullable=False, comment="PRODUCT_VIEW events so far."),
    Column("session_id", Uuid, nullable=False, comment="Event id of the LOGIN."),
    Column(
        "kafka_partition",
        Integer,
        nullable=False,
        comment="The partition that these rows come from; its owner alone writes them.",
    ),
    Column("tenant_id", Text, nullable=False, comment="Whose data it is."),
    Column("user_id", Text, nullable=False, comment="Who is logged in."),
    Column(
        "products",
        ARRAY(Text),
        nullable=False,
        comment="The different products, in the order they first were seen; a 201st says that there are more.",
    ),
    PrimaryKeyConstraint("tenant_id", "user_id", "kafka_partition", name="user_sessions_open_pkey"),
    comment="The open session of each user who has one.",
)

product_views = Table(
    "product_views",
    metadata,
    Column("hour", DateTime(timezone=True), nullable=False, comment="The full hour, UTC, of the event's timestamp."),
    Column("views", BigInteger, nullable=False, comment="PRODUCT_VIEW events."),
    Column("users", BigInteger, nullable=False, comment="Different users among them."),
    Column(
        "kafka_partition",
        Integer,
        nullable=False,
        comment="The partition that these rows come from; its owner alone writes them.",
    ),
    Column("tenant_id", Text, nullable=False, comment="Whose data it is."),
    Column("product_id", Text, nullable=False, comment="payload.productId."),
    PrimaryKeyConstraint("tenant_id", "hour", "product_id", "kafka_partition", name="product_views_pkey"),
    comment="Views of each product in each hour, for each partition.",
)

product_views_users = Table(
    "product_views_users",
    metadata,
    Column("hour", DateTime(timezone=True), nullable=False, comment="The full hour, UTC, of the event's timestamp."),
    Column(
        "kafka_partition",
        Integer,
        nullable=False,
        comment="The partition that these rows come from; its owner alone writes them.",
    ),
    Column("tenant_id", Text, nullable=False, comment="Whose data it is."),
    Column("user_id", Text, nullable=False, comment="Who viewed."),
    Column("products", ARRAY(Text), nullable=False, comment="The different products, in the order of the log."),
    PrimaryKeyConstraint("tenant_id", "hour", "user_id", "kafka_partition", name="product_views_users_pkey"),
    comment="Which products each user viewed in each hour: keeps product_views.users exact.",
)

activity_hourly = Table(
    "activity_hourly",
    metadata,
    Column("hour", DateTime(timezone=True), nullable=False, comment="The full hour, UTC, of the event's timestamp."),
    Column("events", BigInteger, nullable=False, comment="How many."),
    Column("users", BigInteger, nullable=False, comment="Different users among them."),
    Column(
        "kafka_partition",
        Integer,
        nullable=False,
        comment="The partition that these rows come from; its owner alone writes them.",
    ),
    Column("tenant_id", Text, nullable=False, comment="Whose data it is."),
    Column("event_type", Text, nullable=False, comment="A type of the catalogue, or one that was in it."),
    PrimaryKeyConstraint("tenant_id", "hour", "event_type", "kafka_partition", name="activity_hourly_pkey"),
    comment="Events of each type in each hour, for each partition.",
)

activity_hourly_users = Table(
    "activity_hourly_users",
    metadata,
    Column("hour", DateTime(timezone=True), nullable=False, comment="The full hour, UTC, of the event's timestamp."),
    Column(
        "kafka_partition",
        Integer,
        nullable=False,
        comment="The partition that these rows come from; its owner alone writes them.",
    ),
    Column("types", Integer, nullable=False, comment="Sum of the bits LOGIN 1, LOGOUT 2, PRODUCT_VIEW 4."),
    Column("tenant_id", Text, nullable=False, comment="Whose data it is."),
    Column("user_id", Text, nullable=False, comment="Who acted."),
    PrimaryKeyConstraint("tenant_id", "hour", "user_id", "kafka_partition", name="activity_hourly_users_pkey"),
    comment="What types of events each user had in each hour: keeps activity_hourly.users exact.",
)

activity_hourly_type_users = Table(
    "activity_hourly_type_users",
    metadata,
    Column("hour", DateTime(timezone=True), nullable=False, comment="The full hour, UTC, of the event's timestamp."),
    Column(
        "kafka_partition",
        Integer,
        nullable=False,
        comment="The partition that these rows come from; its owner alone writes them.",
    ),
    Column("tenant_id", Text, nullable=False, comment="Whose data it is."),
    Column("event_type", Text, nullable=False, comment="The type."),
    Column("user_id", Text, nullable=False, comment="Who acted."),
    PrimaryKeyConstraint(
        "tenant_id", "hour", "event_type", "user_id", "kafka_partition", name="activity_hourly_type_users_pkey"
    ),
    comment="Who had events of types without a bit in each hour: keeps activity_hourly.users exact.",
)
