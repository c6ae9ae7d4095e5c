"""The key store's tables, in a schema of their own. The database's owner makes them (`footfall privacy prepare`)."""

from read_model.connecting.pool import connect

# Only wrapped keys are here. A user is known by HMAC of the id with a key of the tenant: a tag.
TABLES = """
CREATE SCHEMA IF NOT EXISTS key_store;
CREATE TABLE IF NOT EXISTS key_store.tenants (
    tenant_id text PRIMARY KEY, key_id text NOT NULL, wrapped bytea NOT NULL
);
CREATE TABLE IF NOT EXISTS key_store.months (
    tenant_id text NOT NULL, month text NOT NULL, key_id text NOT NULL, wrapped bytea,
    PRIMARY KEY (tenant_id, month)
);
-- made_anew_at: an older key of the month may be lost. older_given_up: what that one sealed is read as stubs.
ALTER TABLE key_store.months ADD COLUMN IF NOT EXISTS made_anew_at timestamptz,
    ADD COLUMN IF NOT EXISTS older_given_up boolean NOT NULL DEFAULT false;
-- Keys that sealed events of a month whose key is another one now.
CREATE TABLE IF NOT EXISTS key_store.other_months (
    tenant_id text NOT NULL, month text NOT NULL, key_id text NOT NULL, wrapped bytea NOT NULL,
    PRIMARY KEY (tenant_id, month, wrapped)
);
CREATE TABLE IF NOT EXISTS key_store.subjects (
    subject_id uuid PRIMARY KEY, tenant_id text NOT NULL, user_tag bytea NOT NULL,
    key_id text NOT NULL, wrapped bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), retired_at timestamptz
);
CREATE UNIQUE INDEX IF NOT EXISTS subjects_of_user ON key_store.subjects (tenant_id, user_tag)
    WHERE retired_at IS NULL;
CREATE INDEX IF NOT EXISTS subjects_of_retired ON key_store.subjects (tenant_id, user_tag) WHERE retired_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS key_store.erasures (
    erasure_id uuid PRIMARY KEY, tenant_id text NOT NULL, subject_ids uuid[] NOT NULL,
    key_id text NOT NULL, wrapped bytea NOT NULL, requested_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS key_store.destroyed (
    subject_id uuid PRIMARY KEY, destroyed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS destroyed_lately ON key_store.destroyed (destroyed_at);
DO $$ BEGIN
    IF to_regrole('footfall_keys') IS NULL THEN CREATE ROLE footfall_keys; END IF;
END $$;
GRANT USAGE ON SCHEMA key_store TO footfall_keys;
GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA key_store TO footfall_keys;
GRANT UPDATE (retired_at) ON key_store.subjects TO footfall_keys;
GRANT UPDATE (wrapped, older_given_up) ON key_store.months TO footfall_keys;
GRANT DELETE ON key_store.subjects, key_store.erasures, key_store.other_months TO footfall_keys
"""


async def prepare(owner_url: str) -> None:
    """Makes what is missing; changes nothing that is there. Raises asyncpg's errors."""
    connection = await connect(owner_url, "footfall-key-store")
    try:
        async with connection.transaction():
            await connection.execute(TABLES)
    finally:
        await connection.close()
