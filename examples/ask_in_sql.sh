#!/bin/sh
# Ask the read model in SQL, as a role that may read the documented views and nothing else.
#
#   make up                      # in another terminal
#   examples/ask_in_sql.sh
#
# `footfall sql` finds the `footfall up` that runs here; REPORTING_DATABASE_URL names another database.
set -eu
footfall=${FOOTFALL:-.venv/bin/footfall}

exec "$footfall" sql \
  --command "SELECT event_type, count(*) AS events, count(DISTINCT user_id) AS users FROM events GROUP BY event_type ORDER BY event_type" \
  --command "SELECT user_id, events, last_seen FROM users ORDER BY events DESC LIMIT 5"
