"""How readers learn that the read model moved: one notification with each transaction that moves what queries see.

It says only that there is something to look at. Readers look by position, so a notification lost, late or repeated
costs time and nothing else. PostgreSQL delivers it after the commit, and merges those of one transaction.
"""

CHANNEL = "footfall_progress"

WAKE = f"SELECT pg_notify('{CHANNEL}', '')"

# What happens in a generation that no query sees wakes nobody, and keeps off PostgreSQL's one queue of notifications.
WAKE_IF_ACTIVE = f"""
CASE WHEN (SELECT state FROM ops.generations WHERE name = '{{generation}}') = 'active'
     THEN pg_notify('{CHANNEL}', '') END
"""
