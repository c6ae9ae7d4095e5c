-- The table for Kafka Connect's JDBC sink (docs/connect.md). The sink writes the first four columns, the trigger the others.
-- Its key is the record's position, so a record that Connect delivers again is the same row.
CREATE TABLE activity (
    __connect_topic text NOT NULL,
    __connect_partition integer NOT NULL,
    __connect_offset bigint NOT NULL,
    record bytea, -- kept only if it cannot be read as an event
    event jsonb,
    event_id uuid,
    tenant_id text,
    user_id text,
    event_type text,
    happened_at timestamptz,
    PRIMARY KEY (__connect_topic, __connect_partition, __connect_offset)
);

CREATE INDEX activity_event_id ON activity (event_id);
CREATE INDEX activity_user ON activity (tenant_id, user_id, happened_at);

-- Reads the JSON of a record, behind the five bytes of Confluent's frame if it has one. Footfall's erasure of a user is a
-- record in every partition: what stands before it is forgotten here as well. So the sink's role needs no right to delete.
CREATE FUNCTION activity_read() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    content jsonb;
BEGIN
    IF NEW.record IS NULL THEN
        RETURN NEW; -- delivered again: the row has been read; or a record without a value
    END IF;
    content := convert_from(
        CASE WHEN substr(NEW.record, 1, 1) = '\x00' THEN substr(NEW.record, 6) ELSE NEW.record END, 'UTF8'
    )::jsonb;
    IF content ->> 'recordKind' = 'erasure' THEN
        DELETE FROM activity
        WHERE tenant_id = content ->> 'tenantId' AND user_id = content ->> 'userId'
          AND __connect_topic = NEW.__connect_topic AND __connect_partition = NEW.__connect_partition
          AND __connect_offset < NEW.__connect_offset;
        NEW.event := content - 'userId';
    ELSE
        NEW.event_id := (content ->> 'eventId')::uuid;
        NEW.tenant_id := coalesce(content ->> 'tenantId', 'default');
        NEW.user_id := content ->> 'userId';
        NEW.event_type := content ->> 'eventType';
        NEW.happened_at := (content ->> 'timestamp')::timestamptz;
        NEW.event := content;
    END IF;
    NEW.record := NULL;
    RETURN NEW;
EXCEPTION
    WHEN data_exception THEN RETURN NEW; -- not an event: its bytes stay
END $$;

CREATE TRIGGER activity_read BEFORE INSERT OR UPDATE ON activity FOR EACH ROW EXECUTE FUNCTION activity_read();

-- Each event once: a producer that repeats itself writes an event twice.
CREATE VIEW events AS
SELECT DISTINCT ON (event_id) event_id, tenant_id, user_id, event_type, happened_at, event -> 'payload' AS payload
FROM activity
WHERE event_type IS NOT NULL
ORDER BY event_id, __connect_partition, __connect_offset;
