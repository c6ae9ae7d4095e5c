"""Payloads, as text, that no sound event or command has: each is refused, or needs a second look."""

import json

from contracts.event import MAX_PAYLOAD_BYTES

DOUBTFUL_PAYLOADS = {
    "half of a surrogate pair": '{"a":"\\ud800"}',
    "an escaped NUL": '{"a":"\\u0000"}',
    "a payload that is no object": "[]",
    "an integer beyond 64 bits": f'{{"a":{2**64}}}',
    "a number beyond 2^53": '{"a":1e300}',
    "a number that vanishes": '{"a":1e-400}',
    "too deep": '{"a":' * 17 + "1" + "}" * 17,
    "too large": json.dumps({"a": "x" * MAX_PAYLOAD_BYTES}),
}
