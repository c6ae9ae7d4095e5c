"""What openapi-generator makes for Python: post, post a batch, follow pages. Arguments: command side, query side, user."""

import re
import sys
import time

import commands_client
import queries_client

commands, queries, user = sys.argv[1:]
with commands_client.ApiClient(commands_client.Configuration(host=commands)) as client:
    api = commands_client.DefaultApi(client)
    payload = {"productId": "p-42", "nested": [1, {"deep": None}]}
    command = commands_client.Command(userId=user, eventType="PRODUCT_VIEW", payload=payload)
    accepted = api.generate_event(command, idempotency_key="posted-by-openapi-generator")
    batch = api.generate_events([commands_client.BatchItem(userId=user, eventType="LOGOUT")])
    assert batch.success and batch.accepted == 1, batch
with queries_client.ApiClient(queries_client.Configuration(host=queries)) as client:
    api = queries_client.EventsApi(client)
    while len(page := api.get_processed_events(user_id=user, limit=10)) < 2:
        time.sleep(0.1)
    read, cursor = [], None
    while not read or cursor:
        answer = api.get_processed_events_with_http_info(user_id=user, limit=1, cursor=cursor)
        read += answer.data
        headers = {name.lower(): text for name, text in (answer.headers or {}).items()}
        cursor = "".join(re.findall("cursor=([^&>]+)", headers.get("link", "")))
    assert read == page, read
    found = api.get_event(accepted.event.event_id)
assert found.payload["nested"] == [1, {"deep": None}], found
print([each.event_type for each in page])
