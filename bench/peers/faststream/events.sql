CREATE TABLE events (
    event_id uuid PRIMARY KEY,
    user_id text NOT NULL,
    event_type text NOT NULL,
    happened_at timestamptz NOT NULL,
    payload jsonb NOT NULL
);
CREATE INDEX events_user ON events (user_id, happened_at);
