#!/bin/sh
# Post one event with curl, and read it back.
#
#   make up                      # in another terminal
#   examples/post.sh [USER]
set -eu
url=${FOOTFALL_URL:-http://127.0.0.1:3000}
user=${1:-user-1}

# With the same key, a repeated command is the same event: so curl may retry whatever happened.
headers=$(mktemp)
trap 'rm -f "$headers"' EXIT
curl --silent --show-error --fail-with-body --retry 5 --retry-connrefused --dump-header "$headers" \
  --header 'Content-Type: application/json' --header "Idempotency-Key: example-$user-$(date +%s)" \
  --data "{\"userId\":\"$user\",\"eventType\":\"PRODUCT_VIEW\",\"payload\":{\"productId\":\"p-42\"}}" \
  "$url/events/generate"
echo

# The 201 says where the event will be, and its position in the log. A query with that position waits for the event.
header() { tr -d '\r' < "$headers" | awk -v name="$1:" 'tolower($1) == name { print $2 }'; }
curl --silent --show-error --fail-with-body --header "Footfall-Position: $(header footfall-position)" \
  "$url$(header location)"
echo
