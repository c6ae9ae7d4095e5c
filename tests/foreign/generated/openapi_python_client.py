"""What openapi-python-client makes: post, post a batch, follow pages. Arguments: command side, query side, user."""

import re
import sys
import time

from footfall_commands_client import Client as Commands
from footfall_commands_client.api.default import generate_event, generate_events
from footfall_commands_client.models import BatchItem, BatchItemEventType, Command, CommandEventType, CommandPayload
from footfall_queries_client import Client as Queries
from footfall_queries_client.api.events import get_event, get_processed_events

commands, queries, user = sys.argv[1:]
payload = CommandPayload.from_dict({"productId": "p-42", "nested": [1, {"deep": None}]})
command = Command(user_id=user, event_type=CommandEventType.PRODUCT_VIEW, payload=payload)
accepted = generate_event.sync(client=Commands(commands), body=command, idempotency_key="posted-by-openapi-python-client")
item = BatchItem(user_id=user, event_type=BatchItemEventType.LOGOUT)
batch = generate_events.sync(client=Commands(commands), body=[item])
assert batch.success and batch.accepted == 1, batch
with Queries(queries) as client:
    while len(page := get_processed_events.sync(client=client, user_id=user, limit=10)) < 2:
        time.sleep(0.1)
    read, further = [], {}
    while not read or further:
        answer = get_processed_events.sync_detailed(client=client, user_id=user, limit=1, **further)
        read += answer.parsed
        further = {"cursor": cursor for cursor in re.findall("cursor=([^&>]+)", answer.headers.get("Link", ""))}
    assert read == page, read
    found = get_event.sync(accepted.event.event_id, client=client)
assert found.payload.to_dict()["nested"] == [1, {"deep": None}], found
print([each.event_type.value for each in page])
