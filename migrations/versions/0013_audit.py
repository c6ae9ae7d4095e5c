"""The audit log: a table to which roles can only append, by one function that chains each row to the one before.

A role of its own, footfall_audit, owns the table, so that not even the database's owner can change a row without
saying `SET ROLE` first (docs/audit.md). What such a role could still do is found by `footfall audit verify`.
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# Roles belong to the cluster, not to this database: another database may have made it, or make it at the same moment.
ROLE = """
DO $$
BEGIN
    IF to_regrole('footfall_audit') IS NULL THEN
        BEGIN
            CREATE ROLE footfall_audit NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
    IF NOT pg_has_role('footfall_audit', 'SET') THEN
        BEGIN
            EXECUTE format('GRANT footfall_audit TO %I WITH INHERIT FALSE, SET TRUE', current_user);
        EXCEPTION
            WHEN unique_violation OR internal_error THEN NULL;
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION '% may not act as the role footfall_audit, which is there. A superuser can allow it: %',
                    current_user, format('GRANT footfall_audit TO %I WITH INHERIT FALSE, SET TRUE;', current_user);
        END;
    END IF;
END $$
"""

TABLES = """
CREATE TABLE ops.audit (
    number     bigint      NOT NULL,
    at         timestamptz NOT NULL,
    role       text        NOT NULL,
    actor      text        NOT NULL,
    tenant_id  text        NOT NULL,
    action     text        NOT NULL,
    target     text        NOT NULL,
    subject    bytea,
    outcome    text        NOT NULL,
    request_id text        NOT NULL,
    entry_id   uuid,
    previous   bytea       NOT NULL,
    hash       bytea       NOT NULL,
    CONSTRAINT audit_pkey PRIMARY KEY (number),
    CONSTRAINT audit_entry UNIQUE (entry_id),
    CONSTRAINT audit_outcome CHECK (outcome IN ('begun', 'done', 'refused', 'failed'))
);
CREATE INDEX audit_by_subject ON ops.audit (subject, number) WHERE subject IS NOT NULL;
CREATE TABLE ops.audit_key (
    inner_key bytea NOT NULL,
    outer_key bytea NOT NULL
)
"""

# No field can be taken for another one, nor for the end of it: each has its length in front (netstrings).
HASH = """
CREATE FUNCTION ops.audit_hash(entry ops.audit) RETURNS bytea
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(entry.previous || convert_to(string_agg(octet_length(field) || ':' || field || ',', ''
                                                          ORDER BY place), 'UTF8'))
    FROM unnest(ARRAY[
        entry.number::text, to_char(entry.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), entry.role,
        entry.actor, entry.tenant_id, entry.action, entry.target, coalesce(encode(entry.subject, 'hex'), ''),
        entry.outcome, entry.request_id, coalesce(entry.entry_id::text, '')
    ]) WITH ORDINALITY AS fields(field, place)
$$
"""

# A keyed hash of a hash: neither the user id nor the key is ever seen outside of this function. Two keys instead of
# RFC 2104's one, because SQL has no operator to derive them (that construction is NMAC).
SUBJECT = """
CREATE FUNCTION ops.audit_subject(digest bytea) RETURNS bytea
LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(outer_key || sha256(inner_key || digest)) FROM ops.audit_key
$$
"""

# The lock is one that no other role can take. It orders the writers, and ends with the caller's transaction.
WRITE = """
CREATE FUNCTION ops.write_audit(actor text, tenant_id text, action text, target text, digest bytea, outcome text,
                                request_id text, entry_id uuid) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    last  record;
    known bigint;
    entry ops.audit;
BEGIN
    LOCK TABLE ops.audit IN SHARE UPDATE EXCLUSIVE MODE;
    SELECT audit.number INTO known FROM ops.audit WHERE audit.entry_id = write_audit.entry_id;
    IF FOUND THEN
        RETURN known;
    END IF;
    SELECT audit.number, audit.hash INTO last FROM ops.audit ORDER BY audit.number DESC LIMIT 1;
    entry.number := last.number + 1;
    entry.at := clock_timestamp();
    entry.role := session_user;
    entry.actor := left(actor, 256);
    entry.tenant_id := left(tenant_id, 256);
    entry.action := left(action, 64);
    entry.target := left(target, 512);
    entry.subject := ops.audit_subject(digest);
    entry.outcome := outcome;
    entry.request_id := left(request_id, 128);
    entry.entry_id := entry_id;
    entry.previous := last.hash;
    entry.hash := ops.audit_hash(entry);
    INSERT INTO ops.audit SELECT entry.*;
    RETURN entry.number;
END $$
"""

# For accidents: a superuser, whom no privilege binds, has to disable the triggers first.
APPEND_ONLY = [
    """
CREATE FUNCTION ops.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ops.audit is append-only: no row of it is changed or removed';
END $$
""",
    """CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ops.audit
       FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_change()""",
]

# Row 1 begins the chain with random bytes, which are the log's own name: its anchors in Kafka carry them.
FIRST = """
INSERT INTO ops.audit (number, at, role, actor, tenant_id, action, target, outcome, request_id, previous, hash)
VALUES (1, date_trunc('microseconds', clock_timestamp()), session_user, 'migration', '', 'audit begin', '', 'done', '',
        sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')), '');
INSERT INTO ops.audit_key
SELECT sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')) || sha256(convert_to(
           gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')),
       sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')) || sha256(convert_to(
           gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8'));
UPDATE ops.audit AS entry SET hash = ops.audit_hash(entry)
"""

COMMENTS = {
    "TABLE ops.audit": "Who did what to data and keys: append-only, each row chained to the one before.",
    "COLUMN ops.audit.number": "1, 2, 3, .. without a gap.",
    "COLUMN ops.audit.at": "When it was written.",
    "COLUMN ops.audit.role": "The database role of the session that wrote it.",
    "COLUMN ops.audit.actor": "Who acted, as the writer says: user@host, key:<id>, token:<issuer>/<subject>.",
    "COLUMN ops.audit.tenant_id": "Whose data it was; empty: of every tenant.",
    "COLUMN ops.audit.action": "What was done: the command, or export.",
    "COLUMN ops.audit.target": "To what; no personal data.",
    "COLUMN ops.audit.subject": "Pseudonym of the user it was about: a keyed hash; null: of nobody in particular.",
    "COLUMN ops.audit.outcome": "begun, done, refused or failed; a begun one without another was cut off.",
    "COLUMN ops.audit.request_id": "The same for all rows of one deed.",
    "COLUMN ops.audit.entry_id": "UUIDv7 of a note that came by Kafka, which is written once; null: came directly.",
    "COLUMN ops.audit.previous": "hash of the row before; of row 1: random.",
    "COLUMN ops.audit.hash": "SHA-256 of previous and of every other column.",
    "TABLE ops.audit_key": "Keys of the pseudonyms; no role but the owner of this table can read them.",
}

WRITE_AUDIT = "ops.write_audit(text, text, text, text, bytea, text, text, uuid)"
RIGHTS = [
    *(
        f"REVOKE EXECUTE ON FUNCTION ops.{function} FROM PUBLIC"
        for function in (
            "write_audit(text, text, text, text, bytea, text, text, uuid)",
            "audit_subject(bytea)",
            "audit_hash(ops.audit)",
            "refuse_change()",
        )
    ),
    f"GRANT EXECUTE ON FUNCTION {WRITE_AUDIT} TO footfall_reader, footfall_writer",
    "GRANT SELECT (number, previous, hash, entry_id) ON ops.audit TO footfall_writer",
    """
DO $$
DECLARE owner text := (SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'ops');
BEGIN
    EXECUTE format('GRANT SELECT ON ops.audit TO %s', owner);
    EXECUTE format('GRANT EXECUTE ON FUNCTION ops.write_audit(text, text, text, text, bytea, text, text, uuid), '
                   'ops.audit_subject(bytea) TO %s', owner);
END $$
""",
]


def upgrade() -> None:
    _execute(ROLE)
    _execute("GRANT USAGE, CREATE ON SCHEMA ops TO footfall_audit")
    _execute("SET LOCAL ROLE footfall_audit")
    for statement in [*TABLES.split(";\n"), HASH, SUBJECT, WRITE, *FIRST.split(";\n"), *APPEND_ONLY, *RIGHTS]:
        _execute(statement)
    for target, comment in COMMENTS.items():
        _execute("COMMENT ON {} IS '{}'".format(target, comment.replace("'", "''")))
    _execute("RESET ROLE")
    _execute("REVOKE CREATE ON SCHEMA ops FROM footfall_audit")


def downgrade() -> None:
    # Keep the role: other databases of the cluster may use it.
    _execute("DROP FUNCTION ops.write_audit(text, text, text, text, bytea, text, text, uuid)")
    _execute("DROP FUNCTION ops.audit_subject(bytea)")
    _execute("DROP FUNCTION ops.audit_hash(ops.audit)")
    _execute("DROP TABLE ops.audit, ops.audit_key")
    _execute("DROP FUNCTION ops.refuse_change()")
    _execute("REVOKE USAGE ON SCHEMA ops FROM footfall_audit")


def _execute(statement: str) -> None:
    op.execute(statement.replace(":", r"\:"))  # SQLAlchemy takes a colon for a parameter
