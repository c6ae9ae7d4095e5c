"""The ledger of late events says whose each is, so that a tenant's page walks past none of the others'."""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

# What no generation has a row of stays unknown, and every tenant looks at it, as before.
OF_ROWS = """
DO $$
DECLARE generation text;
BEGIN
    FOR generation IN SELECT name FROM ops.generations WHERE to_regnamespace(name) IS NOT NULL ORDER BY name LOOP
        EXECUTE format('UPDATE ops.late_events AS l SET tenant_id = e.tenant_id FROM %I.processed_events AS e
            WHERE l.tenant_id IS NULL AND e.kafka_partition = l.partition AND e.kafka_offset = l.kafka_offset
              AND e.kafka_topic = l.topic', generation);
    END LOOP;
END $$
"""


def upgrade() -> None:
    op.execute('ALTER TABLE ops.late_events ADD COLUMN tenant_id text COLLATE "C"')
    op.execute("COMMENT ON COLUMN ops.late_events.tenant_id IS 'Whose event it is; null: not known.'")
    op.execute(OF_ROWS)
    op.execute("CREATE INDEX late_events_by_tenant ON ops.late_events (topic, partition, tenant_id, number)")


def downgrade() -> None:
    op.execute("ALTER TABLE ops.late_events DROP COLUMN tenant_id")
