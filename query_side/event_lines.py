"""The lines that events are rendered from: each is the JSON of one event."""

import msgspec


class EventLine(msgspec.Struct, rename="camel", gc=False):
    """An event as a line has it; `payload` as JSON text."""

    event_id: str
    user_id: str
    event_type: str
    timestamp: str
    payload: msgspec.Raw


lines_decoder = msgspec.json.Decoder(EventLine)
