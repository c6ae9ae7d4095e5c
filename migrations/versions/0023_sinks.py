"""Sinks: the register of them, and a function that makes the schema with a sink's checkpoints and dead letters."""

from alembic import op

revision = "0023"
down_revision = "0021"
branch_labels = None
depends_on = None

REGISTER = """
CREATE TABLE ops.sinks (
    name       text        NOT NULL,
    target     uuid        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT sinks_pkey PRIMARY KEY (name),
    CONSTRAINT sinks_name CHECK (name ~ '^sink_[a-z][a-z0-9_]{0,30}$')
)
"""
# The role of sinks may create nothing. This function creates one kind of schema, under a name that no other room uses.
OPEN = """
CREATE FUNCTION ops.open_sink(name text, target uuid, anew boolean) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    known uuid;
    model text;
    copied text;
BEGIN
    IF open_sink.name !~ '^sink_[a-z][a-z0-9_]{0,30}$' THEN
        RAISE EXCEPTION '% cannot be the name of a sink', open_sink.name;
    END IF;
    LOCK TABLE ops.sinks IN SHARE ROW EXCLUSIVE MODE;
    SELECT s.target INTO known FROM ops.sinks AS s WHERE s.name = open_sink.name;
    IF known = open_sink.target AND NOT anew THEN
        RETURN false;
    ELSIF known IS NULL THEN
        IF (SELECT count(*) FROM ops.sinks) >= 50 THEN
            RAISE EXCEPTION 'there are 50 sinks already: drop those that nobody uses (docs/sinks.md)';
        END IF;
        SELECT g.name INTO model FROM ops.generations AS g WHERE g.state = 'active';
        EXECUTE format('CREATE SCHEMA %I', open_sink.name);
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO footfall_writer, footfall_reader', open_sink.name);
        FOREACH copied IN ARRAY ARRAY['checkpoints', 'dead_letters'] LOOP
            EXECUTE format('CREATE TABLE %I.%I (LIKE %I.%I INCLUDING ALL)', open_sink.name, copied, model, copied);
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I.%I TO footfall_writer', open_sink.name, copied);
        END LOOP;
        EXECUTE format('GRANT SELECT ON %I.checkpoints TO footfall_reader', open_sink.name);
    ELSE
        EXECUTE format('DELETE FROM %I.checkpoints', open_sink.name);
        EXECUTE format('DELETE FROM %I.dead_letters', open_sink.name);
        DELETE FROM ops.sinks AS s WHERE s.name = open_sink.name;
    END IF;
    INSERT INTO ops.sinks (name, target) VALUES (open_sink.name, open_sink.target);
    RETURN true;
END
$function$
"""
GRANTS = (
    "GRANT SELECT ON ops.sinks TO footfall_writer, footfall_reader",
    "REVOKE ALL ON FUNCTION ops.open_sink FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION ops.open_sink TO footfall_writer",
)
COMMENTS = {
    "TABLE ops.sinks": "Copies of the events outside of PostgreSQL, that `footfall sink` writes.",
    "COLUMN ops.sinks.name": "The schema with its checkpoints and dead letters.",
    "COLUMN ops.sinks.target": "What the target says it is: if it was made anew, everything is written again.",
    "COLUMN ops.sinks.created_at": "Since when it is written: users erased before were never in it.",
    "FUNCTION ops.open_sink": "Makes a sink known; true: it begins at the beginning of the log.",
}


def upgrade() -> None:
    for statement in (REGISTER, OPEN, *GRANTS):
        op.execute(statement.replace(":", r"\:"))  # SQLAlchemy takes a colon for a parameter
    for target, comment in COMMENTS.items():
        op.execute(f"COMMENT ON {target} IS '{comment}'".replace(":", r"\:"))


def downgrade() -> None:
    op.execute("DROP FUNCTION ops.open_sink")
    op.execute(
        """DO $$ DECLARE found text; BEGIN FOR found IN SELECT name FROM ops.sinks LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', found); END LOOP; END $$"""
    )
    op.execute("DROP TABLE ops.sinks")
