"""What is asked of the key store, in SQL."""

from typing import NamedTuple
from uuid import UUID


class Noted(NamedTuple):
    """An erasure as the store has it: the arguments of `NOTE_ERASURE`."""

    erasure_id: UUID
    tenant_id: str
    subject_ids: list[UUID]
    key_id: str
    wrapped: bytes


# The rows of users, made for those who have none. Two sessions may make one at the same moment: who comes second gets
# no row of that user, and asks again.
LEARN = """
WITH wanted AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::text[], $5::bytea[])
        AS w(subject_id, tenant_id, user_tag, key_id, wrapped)
), known AS (
    SELECT s.subject_id, s.tenant_id, s.user_tag, s.key_id, s.wrapped, s.created_at FROM key_store.subjects AS s
    JOIN wanted AS w ON s.tenant_id = w.tenant_id AND s.user_tag = w.user_tag WHERE s.retired_at IS NULL
), made AS (
    INSERT INTO key_store.subjects (subject_id, tenant_id, user_tag, key_id, wrapped)
    SELECT w.* FROM wanted AS w
    WHERE NOT EXISTS (SELECT FROM known WHERE known.tenant_id = w.tenant_id AND known.user_tag = w.user_tag)
    ON CONFLICT DO NOTHING RETURNING subject_id, tenant_id, user_tag, key_id, wrapped, created_at
)
SELECT * FROM known UNION ALL SELECT * FROM made
"""
OF_SUBJECTS = """
SELECT subject_id, tenant_id, key_id, wrapped, created_at FROM key_store.subjects WHERE subject_id = ANY ($1::uuid[])
UNION ALL SELECT subject_id, NULL, NULL, NULL, NULL FROM key_store.destroyed WHERE subject_id = ANY ($1::uuid[])
"""
# Of subjects in $1: neither there nor destroyed.
LACKING = """
SELECT w.subject_id FROM unnest($1::uuid[]) AS w(subject_id)
WHERE NOT EXISTS (SELECT FROM key_store.subjects AS s WHERE s.subject_id = w.subject_id)
  AND NOT EXISTS (SELECT FROM key_store.destroyed AS d WHERE d.subject_id = w.subject_id)
"""
# $1: subjects; $2, $3: tenants and months; $4: tenants
LACKS = f"""
SELECT EXISTS ({LACKING}) OR EXISTS (
    SELECT FROM unnest($2::text[], $3::text[]) AS w(tenant_id, month)
    WHERE NOT EXISTS (SELECT FROM key_store.months AS m WHERE m.tenant_id = w.tenant_id AND m.month = w.month)
) OR EXISTS (
    SELECT FROM unnest($4::text[]) AS w(tenant_id)
    WHERE NOT EXISTS (SELECT FROM key_store.tenants AS t WHERE t.tenant_id = w.tenant_id)
)
"""  # noqa: S608 - composed of constants
# A user who has a new subject meanwhile keeps it: the one that is given back can be read, and nobody seals for it.
GIVE_BACK = """
INSERT INTO key_store.subjects (subject_id, tenant_id, user_tag, key_id, wrapped, created_at, retired_at)
SELECT w.*, CASE WHEN EXISTS (
    SELECT FROM key_store.subjects AS s
    WHERE s.tenant_id = w.tenant_id AND s.user_tag = w.user_tag AND s.retired_at IS NULL
) THEN now() END
FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::text[], $5::bytea[], $6::timestamptz[])
    AS w(subject_id, tenant_id, user_tag, key_id, wrapped, created_at)
WHERE NOT EXISTS (SELECT FROM key_store.destroyed AS d WHERE d.subject_id = w.subject_id)
ON CONFLICT DO NOTHING RETURNING subject_id, retired_at
"""
# What `prepare` grants, and whether the session may write at all.
RIGHTS = """
WITH needed(place, name) AS (
    SELECT 'key_store.' || place, name
    FROM unnest(ARRAY['tenants', 'months', 'other_months', 'subjects', 'erasures', 'destroyed']) AS place,
         unnest(ARRAY['SELECT', 'INSERT']) AS name
    UNION ALL VALUES ('key_store.subjects', 'DELETE'), ('key_store.erasures', 'DELETE'),
        ('key_store.other_months', 'DELETE')
)
SELECT current_setting('transaction_read_only')::bool AS read_only, ARRAY(
    SELECT name || ' on ' || place FROM needed WHERE NOT has_table_privilege(place, name)
    UNION ALL SELECT 'UPDATE on key_store.subjects'
    WHERE NOT has_column_privilege('key_store.subjects', 'retired_at', 'UPDATE')
    UNION ALL SELECT 'UPDATE on key_store.months'
    WHERE NOT (has_column_privilege('key_store.months', 'wrapped', 'UPDATE')
        AND has_column_privilege('key_store.months', 'older_given_up', 'UPDATE'))
) AS lacking
"""
TENANT = """
WITH made AS (
    INSERT INTO key_store.tenants (tenant_id, key_id, wrapped) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING *
)
SELECT * FROM made UNION ALL SELECT * FROM key_store.tenants WHERE tenant_id = $1
"""
MONTHS = "SELECT month, key_id, wrapped FROM key_store.months WHERE tenant_id = $1"
# A month's key is made before the month. One that is made in it, of a tenant who is known, may replace a lost one.
MAKE_MONTHS = """
INSERT INTO key_store.months (tenant_id, month, key_id, wrapped, made_anew_at)
SELECT $1, w.month, w.key_id, w.wrapped, CASE
    WHEN w.is_new AND w.month <= to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM')
        AND EXISTS (SELECT FROM key_store.tenants AS t WHERE t.tenant_id = $1) THEN now()
END FROM unnest($2::text[], $3::text[], $4::bytea[], $5::bool[]) AS w(month, key_id, wrapped, is_new)
ON CONFLICT DO NOTHING
"""
ONE_MONTH_OF_EACH_KEY = """
SELECT DISTINCT ON (tenant_id, key_id) tenant_id, month, key_id, wrapped FROM key_store.months
WHERE wrapped IS NOT NULL ORDER BY tenant_id, key_id, month DESC
"""
SOME_MONTHS = """
SELECT m.tenant_id, m.month, m.wrapped FROM key_store.months AS m
JOIN unnest($1::text[], $2::text[]) AS w(tenant_id, month) USING (tenant_id, month)
"""
OTHER_MONTHS = "SELECT month, key_id, wrapped FROM key_store.other_months WHERE tenant_id = $1"
KEEP_OTHER = "INSERT INTO key_store.other_months (tenant_id, month, key_id, wrapped) VALUES ($1, $2, $3, $4)"
DESTROY_OTHERS = "DELETE FROM key_store.other_months WHERE tenant_id = $1 AND month < $2"
MADE_ANEW = """
SELECT month, made_anew_at, older_given_up FROM key_store.months WHERE tenant_id = $1 AND made_anew_at IS NOT NULL
"""
DESTROY_MONTHS = """
UPDATE key_store.months SET wrapped = NULL WHERE tenant_id = $1 AND month < $2 AND wrapped IS NOT NULL RETURNING month
"""
GIVE_UP_OLDER = """
UPDATE key_store.months SET older_given_up = true
WHERE tenant_id = $1 AND month = ANY ($2::text[]) AND made_anew_at IS NOT NULL AND NOT older_given_up RETURNING month
"""
GIVE_UP_MONTHS = """
WITH asked AS (SELECT unnest($2::text[]) AS month),
known AS (SELECT month FROM asked JOIN key_store.months AS kept USING (month) WHERE kept.tenant_id = $1),
noted AS (
    INSERT INTO key_store.months (tenant_id, month, key_id)
    SELECT DISTINCT $1::text, month, '' FROM asked WHERE NOT EXISTS (SELECT FROM known)
    ON CONFLICT DO NOTHING RETURNING month
)
SELECT month FROM known
UNION (SELECT month FROM asked WHERE NOT EXISTS (SELECT FROM known) EXCEPT SELECT month FROM noted)
ORDER BY month
"""
RETIRE = """
UPDATE key_store.subjects SET retired_at = now() WHERE tenant_id = $1 AND user_tag = $2 AND retired_at IS NULL
"""
RETIRE_AGAIN = """
UPDATE key_store.subjects SET retired_at = now() WHERE subject_id = ANY ($1::uuid[]) AND retired_at IS NULL
"""
SUBJECTS_OF_USER = """
SELECT subject_id, tenant_id, key_id, wrapped, created_at FROM key_store.subjects
WHERE tenant_id = $1 AND user_tag = $2 ORDER BY created_at
"""
NOTE_ERASURE = """
INSERT INTO key_store.erasures (erasure_id, tenant_id, subject_ids, key_id, wrapped) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
"""
# An erasure that is done is not there either, but its subjects are destroyed.
LOST_ERASURES = """
SELECT w.erasure_id FROM unnest($1::uuid[], $2::uuid[]) AS w(erasure_id, subject_id)
WHERE NOT EXISTS (SELECT FROM key_store.erasures AS e WHERE e.erasure_id = w.erasure_id)
  AND NOT EXISTS (SELECT FROM key_store.destroyed AS d WHERE d.subject_id = w.subject_id)
"""
UNRETIRED = "SELECT subject_id FROM key_store.subjects WHERE subject_id = ANY ($1::uuid[]) AND retired_at IS NULL"
# $1: the store's time at the look before, or NULL; $2: seconds since then. Another server's clock may be another.
RETIRED_SINCE = """
WITH since AS (
    SELECT least($1::timestamptz, now() - make_interval(secs => $2)) - interval '1 minute' AS moment
)
SELECT subject_id, now() AS asked_at FROM key_store.subjects WHERE retired_at > (SELECT moment FROM since)
UNION ALL
SELECT subject_id, now() FROM key_store.destroyed WHERE destroyed_at > (SELECT moment FROM since)
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
