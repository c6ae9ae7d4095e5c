"""What is too large is not looked into: to name each of its problems would cost more than all that is sound.

A payload of 16 KiB can hold 8,000 lists; 64 KiB of them, judged value by value, would hold the event loop as long as
hundreds of usual commands.
"""

import msgspec

from contracts.event import MAX_PAYLOAD_BYTES, MAX_USER_ID_LENGTH

LARGE_PAYLOAD = f"Field `payload` is larger than {MAX_PAYLOAD_BYTES // 1024} KiB encoded."
LARGE_COMMAND = f"The command is larger than any valid one: its payload may be {MAX_PAYLOAD_BYTES // 1024} KiB encoded."

# What else a sound command may hold, with an idempotency key and its fields' names.
BESIDE_THE_PAYLOAD = 4 * MAX_USER_ID_LENGTH
# Each of these is at least one byte of the encoded payload, whether it stands in a string or not.
PARTS = (b",", b":", b"[", b"{", b"\\")

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode = msgspec.json.Decoder(dict).decode
_encode = msgspec.json.Encoder().encode


def without_large_payload(body: bytes) -> bytes | None:
    """The same command with an empty payload, if its own is larger than any sound one. None, too, in any doubt."""
    if len(body) <= MAX_PAYLOAD_BYTES:
        return None
    try:
        fields = _fields(body)
        if len(_encode(_decode(fields["payload"]))) <= MAX_PAYLOAD_BYTES:
            return None
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return _encode(fields | {"payload": {}})


def surely_too_large(command: bytes) -> bool:
    """Whether a command has more parts than any sound one; found without decoding it."""
    if len(command) <= MAX_PAYLOAD_BYTES + BESIDE_THE_PAYLOAD:
        return False
    return sum(map(command.count, PARTS)) > MAX_PAYLOAD_BYTES + BESIDE_THE_PAYLOAD
