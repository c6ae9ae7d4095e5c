"""What is asked of the key store, in SQL."""

# The rows of users, made for those who have none. Two sessions may make one at the same moment: who comes second gets
# no row of that user, and asks again.
LEARN = """
WITH wanted AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::text[], $5::bytea[])
        AS w(subject_id, tenant_id, user_tag, key_id, wrapped)
), known AS (
    SELECT s.subject_id, s.tenant_id, s.user_tag, s.key_id, s.wrapped FROM key_store.subjects AS s
    JOIN wanted AS w ON s.tenant_id = w.tenant_id AND s.user_tag = w.user_tag WHERE s.retired_at IS NULL
), made AS (
    INSERT INTO key_store.subjects (subject_id, tenant_id, user_tag, key_id, wrapped)
    SELECT w.* FROM wanted AS w
    WHERE NOT EXISTS (SELECT FROM known WHERE known.tenant_id = w.tenant_id AND known.user_tag = w.user_tag)
    ON CONFLICT DO NOTHING RETURNING subject_id, tenant_id, user_tag, key_id, wrapped
)
SELECT * FROM known UNION ALL SELECT * FROM made
"""
OF_SUBJECTS = """
SELECT subject_id, tenant_id, key_id, wrapped FROM key_store.subjects WHERE subject_id = ANY ($1::uuid[])
UNION ALL SELECT subject_id, NULL, NULL, NULL FROM key_store.destroyed WHERE subject_id = ANY ($1::uuid[])
"""
TENANT = """
WITH made AS (
    INSERT INTO key_store.tenants (tenant_id, key_id, wrapped) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING *
)
SELECT * FROM made UNION ALL SELECT * FROM key_store.tenants WHERE tenant_id = $1
"""
MONTHS = "SELECT month, key_id, wrapped FROM key_store.months WHERE tenant_id = $1"
MAKE_MONTHS = """
INSERT INTO key_store.months (tenant_id, month, key_id, wrapped)
SELECT $1, * FROM unnest($2::text[], $3::text[], $4::bytea[]) ON CONFLICT DO NOTHING
"""
RETIRE = """
UPDATE key_store.subjects SET retired_at = now() WHERE tenant_id = $1 AND user_tag = $2 AND retired_at IS NULL
"""
SUBJECTS_OF_USER = "SELECT subject_id FROM key_store.subjects WHERE tenant_id = $1 AND user_tag = $2"
NOTE_ERASURE = """
INSERT INTO key_store.erasures (erasure_id, tenant_id, subject_ids, key_id, wrapped) VALUES ($1, $2, $3, $4, $5)
"""
RETIRED_SINCE = """
SELECT subject_id, now() AS asked_at FROM key_store.subjects WHERE retired_at > $1::timestamptz - interval '1 minute'
UNION ALL
SELECT subject_id, now() FROM key_store.destroyed WHERE destroyed_at > $1::timestamptz - interval '1 minute'
UNION ALL SELECT NULL, now()
"""
ERASURE_KEYS = (
    "SELECT erasure_id, tenant_id, key_id, wrapped FROM key_store.erasures WHERE erasure_id = ANY ($1::uuid[])"
)
DESTROY = """
WITH gone AS (DELETE FROM key_store.subjects WHERE subject_id = ANY ($1::uuid[]))
INSERT INTO key_store.destroyed (subject_id) SELECT unnest($1::uuid[]) ON CONFLICT DO NOTHING
"""
BROUGHT_BACK = "SELECT subject_id FROM key_store.subjects JOIN key_store.destroyed USING (subject_id)"
# Only those whose markers were passed: another erasure of the same subjects still needs its key to say whom to erase.
FORGET_ERASURES = "DELETE FROM key_store.erasures WHERE erasure_id = ANY ($1::uuid[])"
