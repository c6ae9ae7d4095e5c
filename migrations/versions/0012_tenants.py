r"""Tenants: whose a dead letter is, an index for the feed of tenants, and whose data a reporter may query.

The views of schema `reporting` said `'default'`. They compare with the tenant of the session's role now: what it says
was said to `footfall grant-reporter`, and a role of which nothing was said sees nothing. Row security would do the same
1,000 times slower (docs/decisions/0037).
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

IN_EVERY_GENERATION = """
DO $$
DECLARE generation text;
BEGIN
    FOR generation IN SELECT name FROM ops.generations WHERE to_regnamespace(name) IS NOT NULL ORDER BY name LOOP
        EXECUTE replace($statement${statement}$statement$, '{{generation}}', quote_ident(generation));
    END LOOP;
END $$
"""
ON_THE_ACTIVE_GENERATION = """
DO $$
BEGIN
    EXECUTE replace($statement${statement}$statement$, '{{generation}}',
                    (SELECT quote_ident(name) FROM ops.generations WHERE state = 'active'));
END $$
"""

# The default tenant's events are not in it, so that storing them costs only the look whether they are.
INDEX = """CREATE INDEX processed_events_by_tenant_position
    ON {generation}.processed_events (tenant_id, kafka_partition, kafka_offset) WHERE tenant_id <> 'default'"""
NO_INDEX = "DROP INDEX {generation}.processed_events_by_tenant_position"

# Whose record it is, its key says: tenant, U+001F and user; without U+001F, it is the default tenant's. Of an erased
# user's letter that was discarded, neither key nor value is left: it is nobody's.
TENANT_OF_KEY = r"""CASE WHEN record_key IS NULL AND record_value IS NULL THEN ''
     WHEN position('\x1f'::bytea IN record_key) > 0
     THEN encode(substring(record_key FROM 1 FOR position('\x1f'::bytea IN record_key) - 1), 'escape')
     ELSE 'default' END"""
LETTERS = """
CREATE OR REPLACE VIEW read.dead_letters AS
SELECT kafka_topic, kafka_partition, kafka_offset, recorded_at, parked_at, cause, state, error_class, error_message,
       behind_offset, attempts, published_at, resolved_at, resolved_by,
       left(encode(header_values[array_position(header_names, 'event-id')], 'escape'), 64) AS event_id{tenant}
FROM {{generation}}.dead_letters
"""

REPORTERS = [
    """
CREATE TABLE ops.reporter_tenants (
    reporter  name NOT NULL,
    tenant_id text NOT NULL,
    CONSTRAINT reporter_tenants_pkey PRIMARY KEY (reporter)
)""",
    "COMMENT ON TABLE ops.reporter_tenants IS 'Whose data each reporter may query; a role without a row sees none.'",
    "COMMENT ON COLUMN ops.reporter_tenants.reporter IS 'The role that logs in.'",
    "COMMENT ON COLUMN ops.reporter_tenants.tenant_id IS 'The tenant whose data schema reporting shows it.'",
    """
INSERT INTO ops.reporter_tenants (reporter, tenant_id)
SELECT DISTINCT r.rolname, 'default' FROM pg_auth_members AS m
JOIN pg_roles AS r ON r.oid = m.member JOIN pg_roles AS g ON g.oid = m.roleid WHERE g.rolname = 'footfall_reporter'
""",
]

# In the definition of each view; the names are qualified, whatever the session's search path is.
VIEWS = """
DO $$
DECLARE
    view record;
    definition text;
    path text := current_setting('search_path');
BEGIN
    PERFORM set_config('search_path', 'pg_catalog', true);
    FOR view IN SELECT c.oid, c.relname FROM pg_class AS c
                WHERE c.relnamespace = 'reporting'::regnamespace AND c.relkind = 'v' ORDER BY c.relname LOOP
        definition := {definition};
        IF definition = pg_get_viewdef(view.oid) THEN
            RAISE EXCEPTION 'the view reporting.% does not say whose data it shows', view.relname;
        END IF;
        EXECUTE format('CREATE OR REPLACE VIEW reporting.%I WITH (security_barrier = true) AS %s',
                       view.relname, definition);
    END LOOP;
    PERFORM set_config('search_path', path, true);
END $$
"""
OF_THE_REPORTER = """replace(pg_get_viewdef(view.oid), '''default''::text',
            '(SELECT r.tenant_id FROM ops.reporter_tenants AS r WHERE r.reporter = SESSION_USER)')"""
OF_DEFAULT = r"""regexp_replace(pg_get_viewdef(view.oid),
            '\(\s*SELECT r\.tenant_id\s+FROM ops\.reporter_tenants r\s+WHERE \(?r\.reporter = SESSION_USER\)?\)',
            '''default''\:\:text', 'g')"""


def upgrade() -> None:
    op.execute(IN_EVERY_GENERATION.format(statement=INDEX))
    op.execute(ON_THE_ACTIVE_GENERATION.format(statement=LETTERS.format(tenant=f", {TENANT_OF_KEY} AS tenant_id")))
    op.execute("COMMENT ON COLUMN read.dead_letters.tenant_id IS 'Whose record it is, as its key says.'")
    for statement in REPORTERS:
        op.execute(statement)
    op.execute(VIEWS.format(definition=OF_THE_REPORTER))
    op.execute("COMMENT ON SCHEMA reporting IS 'For people and tools: the data of the reporter''s tenant, documented.'")


def downgrade() -> None:
    op.execute(VIEWS.format(definition=OF_DEFAULT))
    op.execute("COMMENT ON SCHEMA reporting IS 'For people and tools: the default tenant''s data, documented.'")
    op.execute("DROP TABLE ops.reporter_tenants")
    op.execute("DROP VIEW read.dead_letters")
    op.execute(ON_THE_ACTIVE_GENERATION.format(statement=LETTERS.format(tenant="")))
    op.execute("COMMENT ON COLUMN read.dead_letters.event_id IS 'Its event, as the header event-id names it.'")
    op.execute("GRANT SELECT ON read.dead_letters TO footfall_reader, footfall_writer")
    op.execute(IN_EVERY_GENERATION.format(statement=NO_INDEX))
