"""Declares the views of schema `reporting`: the type and the meaning of each column.

Only `migrations/` creates the views. Readers see its comments, and a test compares them with these declarations and
with docs/sql.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass

REPORTING = "reporting"  # the schema
REPORTER_ROLE = "footfall_reporter"  # the group role that may read this schema and nothing else


@dataclass(frozen=True)
class Column:
    """A column of a view. `type` is PostgreSQL's name of the type."""

    name: str
    type: str
    comment: str


@dataclass(frozen=True)
class ReportingView:
    """A view and its columns, in order."""

    comment: str
    columns: tuple[Column, ...]


VIEWS: Mapping[str, ReportingView] = {
    "events": ReportingView(
        "Every event, exactly once.",
        (
            Column("event_id", "uuid", "Unique id of the event."),
            Column("user_id", "text", "Who acted."),
            Column("event_type", "text", "What happened: a type of the catalogue, or one that was in it."),
            Column("occurred_at", "timestamp with time zone", "When it happened: the event's timestamp."),
            Column(
                "day", "date", "The day of occurred_at in UTC. To choose a span, compare occurred_at: it has an index."
            ),
            Column(
                "product_id",
                "text",
                "The product of a view; null for a view of none, and for events that view none.",
            ),
            Column("payload", "jsonb", "Free-form details."),
            Column("recorded_at", "timestamp with time zone", "When Kafka's record was made."),
            Column("projected_at", "timestamp with time zone", "When it came into the read model."),
        ),
    ),
    "users": ReportingView(
        "Each user who ever acted.",
        (
            Column("user_id", "text", "Who acted."),
            Column("events", "bigint", "Events of every type."),
            Column("logins", "bigint", "Events that open a session: LOGIN."),
            Column("logouts", "bigint", "Events that close a session: LOGOUT."),
            Column("product_views", "bigint", "Events that view a product, of a product or not: PRODUCT_VIEW."),
            Column("first_seen", "timestamp with time zone", "The least timestamp of their events."),
            Column("last_seen", "timestamp with time zone", "The greatest timestamp of their events."),
            Column("last_login_at", "timestamp with time zone", "Timestamp of the latest LOGIN; null without one."),
            Column("logged_in", "boolean", "Whether the latest LOGIN or LOGOUT is a LOGIN; false without either."),
            Column("last_product_id", "text", "The product viewed last; null without one."),
        ),
    ),
    "user_event_types": ReportingView(
        "How often each user did what; what they never did has no row.",
        (
            Column("user_id", "text", "Who acted."),
            Column("event_type", "text", "What happened: a type of the catalogue, or one that was in it."),
            Column("events", "bigint", "How many."),
        ),
    ),
    "sessions": ReportingView(
        "From each LOGIN to the LOGOUT or LOGIN of the same user that ended it, in the order of the log.",
        (
            Column("session_id", "uuid", "Event id of the LOGIN."),
            Column("user_id", "text", "Who was logged in."),
            Column("started_at", "timestamp with time zone", "Timestamp of the LOGIN."),
            Column("day", "date", "The day of started_at in UTC."),
            Column("ended_at", "timestamp with time zone", "Timestamp of what ended it; null while open."),
            Column("ended_by", "text", "LOGOUT, or LOGIN: the next one; null while open."),
            Column("duration", "interval", "From start to end, never negative; null while open."),
            Column("is_open", "boolean", "Whether nothing has ended it yet."),
            Column("product_views", "bigint", "PRODUCT_VIEW events."),
            Column("products", "text[]", "The different products seen, in the order they first were, at most 200."),
            Column("more_products", "boolean", "Whether more than 200 were seen."),
        ),
    ),
    "product_ranking": ReportingView(
        "Products by their views since the beginning; for a span of time, sum up product_views_hourly.",
        (
            Column("rank", "bigint", "1 for the most views; products with as many views share a rank."),
            Column("product_id", "text", "The product."),
            Column("views", "bigint", "PRODUCT_VIEW events."),
            Column("users", "bigint", "Different users who viewed it."),
        ),
    ),
    "product_views_hourly": ReportingView(
        "Views of each product in each hour; an hour without a view has no row.",
        (
            Column("hour", "timestamp with time zone", "The full hour (UTC) of the events' timestamps."),
            Column("product_id", "text", "The product."),
            Column("views", "bigint", "PRODUCT_VIEW events."),
            Column("users", "bigint", "Different users in this hour; not to be summed up over hours."),
        ),
    ),
    "activity_hourly": ReportingView(
        "Events of each type in each hour; what did not happen has no row.",
        (
            Column("hour", "timestamp with time zone", "The full hour (UTC) of the events' timestamps."),
            Column("event_type", "text", "What happened: a type of the catalogue, or one that was in it."),
            Column("events", "bigint", "How many."),
            Column("users", "bigint", "Different users in this hour; not to be summed up over hours or types."),
        ),
    ),
    "active_users_daily": ReportingView(
        "Daily active users; a day without events has no row.",
        (
            Column("day", "date", "The day in UTC."),
            Column("users", "bigint", "Different users with at least one event."),
            Column("new_users", "bigint", "Users among them who never were there before."),
            Column("events", "bigint", "Events of every type."),
        ),
    ),
    "active_users_weekly": ReportingView(
        "Weekly active users; a week without events has no row.",
        (
            Column("week", "date", "The Monday of the ISO week, in UTC."),
            Column(
                "iso_week",
                "text",
                "The ISO week as year and number, such as 2026-W53; the year is that of its Thursday.",
            ),
            Column("users", "bigint", "Different users with at least one event."),
            Column("new_users", "bigint", "Users among them who never were there before."),
            Column("events", "bigint", "Events of every type."),
        ),
    ),
    "active_users_monthly": ReportingView(
        "Monthly active users; a month without events has no row.",
        (
            Column("month", "date", "The first day of the month, in UTC."),
            Column("users", "bigint", "Different users with at least one event."),
            Column("new_users", "bigint", "Users among them who never were there before."),
            Column("events", "bigint", "Events of every type."),
        ),
    ),
    "login_to_view_funnel": ReportingView(
        "How many sessions get from the LOGIN to a product, by the day they started; open ones count.",
        (
            Column("day", "date", "The day of the LOGIN in UTC."),
            Column("sessions", "bigint", "Sessions that started."),
            Column("sessions_with_view", "bigint", "Those of them with at least one PRODUCT_VIEW, on whatever day."),
            Column("sessions_with_several", "bigint", "Those of them with at least two different products."),
            Column("view_rate", "numeric", "sessions_with_view of sessions: 0 to 1, with four decimals."),
            Column("users", "bigint", "Different users who started one."),
            Column("users_with_view", "bigint", "Those of them with a PRODUCT_VIEW in one."),
        ),
    ),
    "retention_weekly": ReportingView(
        "Of the users who came in one ISO week, how many were there in each week since; one with none has no row.",
        (
            Column("cohort_week", "date", "The Monday of the week (UTC) in which these users were first seen."),
            Column("week_number", "integer", "Weeks since then; 0 is the first week itself."),
            Column("week", "date", "The Monday of the week that is looked at."),
            Column("cohort_users", "bigint", "Users of the cohort."),
            Column("users", "bigint", "Those of them with at least one event in that week."),
            Column("retention", "numeric", "users of cohort_users: 0 to 1, with four decimals."),
        ),
    ),
}
