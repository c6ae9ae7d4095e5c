"""Registers the topic's schema as that of its values, and never makes the rules of the registry weaker.

A schema that is there already is only looked up: then a user of the registry who may only read is enough.
"""

from typing import TYPE_CHECKING

import msgspec

from brokers.registry.errors import RegistryRefusedError
from brokers.registry.settings import WireSettings
from contracts.wire.format import WireFormat
from contracts.wire.frames import MAX_SCHEMA_ID, frame_for
from contracts.wire.topic_schema import topic_schema

if TYPE_CHECKING:
    from brokers.registry.client import Answer, RegistryClient

WANTED = "BACKWARD"
# Levels at which a reader of the newest schema can read what was written before.
STRONG_ENOUGH = frozenset({WANTED, "BACKWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"})
NOT_THERE = 404


def subject_of(topic: str) -> str:
    """The subject of the topic's values, as Confluent's clients name it (TopicNameStrategy)."""
    return f"{topic}-value"


async def wire_format_of(settings: WireSettings, topic: str) -> WireFormat:
    """How a command writes records into the topic. Raises RegistryAwayError and RegistryRefusedError."""
    wire = WireFormat(topic, cloud_events=settings.kafka_cloudevents)
    if settings.kafka_wire_format == "json":
        return wire
    schema_id = await registered(registry_of(settings), topic, topic_schema())
    return msgspec.structs.replace(wire, frame=frame_for(schema_id))


def registry_of(settings: WireSettings) -> "RegistryClient":
    """The registry that the settings name."""
    from brokers.registry.client import RegistryClient  # noqa: PLC0415 - httpx is slow to import, and few need it

    return RegistryClient(settings)


async def registered(client: "RegistryClient", topic: str, schema: str) -> int:
    """Returns the schema's id, after it is registered and the subject's compatibility is checked.

    Raises:
        RegistryAwayError: The registry does not answer now.
        RegistryRefusedError: It must not be written so: the text says what to do.
    """
    subject = subject_of(topic)
    await _keep_compatibility(client, subject)
    body = {"schemaType": "JSON", "schema": schema}
    found = await client.ask("POST", "subjects", subject, body=body)
    if found.status == NOT_THERE:
        await _check_compatible(client, subject, body)
        found = await client.ask("POST", "subjects", subject, "versions", body=body)
    schema_id = _id_of(found, subject)
    await _check_id(client, schema_id, schema)
    return schema_id


async def _keep_compatibility(client: "RegistryClient", subject: str) -> None:
    """Makes the subject's level BACKWARD where nobody has set one; what somebody has set stays, or is refused."""
    level = await _level(client, "config", subject)
    if level is None and await _level(client, "config") not in STRONG_ENOUGH:
        answer = await client.ask("PUT", "config", subject, body={"compatibility": WANTED})
        level = await _level(client, "config", subject)
        if level is None:
            raise RegistryRefusedError(f"The compatibility of {subject} cannot be set to {WANTED}: {answer.told}.")
    if level is not None and level not in STRONG_ENOUGH:
        raise RegistryRefusedError(
            f"The compatibility of subject {subject} is {level}, and Footfall needs {WANTED} or stronger. It does not "
            f"change what somebody has set: set it, or delete the subject's own level."
        )


async def _level(client: "RegistryClient", *path: str) -> str | None:
    answer = await client.ask("GET", *path)
    level = answer.fields.get("compatibilityLevel")
    if answer.status == NOT_THERE:
        return None
    if answer.status != 200 or not isinstance(level, str):
        raise RegistryRefusedError(f"{client.url} does not speak as a schema registry does: {answer.told}.")
    return level


async def _check_compatible(client: "RegistryClient", subject: str, body: dict[str, str]) -> None:
    answer = await client.ask("POST", "compatibility", "subjects", subject, "versions", "latest", body=body)
    if answer.status == NOT_THERE:  # the subject has no version yet
        return
    if answer.fields.get("is_compatible") is not True:
        raise RegistryRefusedError(
            f"The schema of this release is not compatible with the newest of subject {subject} ({answer.told}): "
            "somebody has registered another one there. Look at it, and delete that version if no record has it."
        )


def _id_of(answer: "Answer", subject: str) -> int:
    found = answer.fields.get("id")
    if answer.status != 200 or type(found) is not int or not 0 <= found <= MAX_SCHEMA_ID:
        raise RegistryRefusedError(f"The schema registry does not register {subject}: {answer.told}.")
    return found


async def _check_id(client: "RegistryClient", schema_id: int, schema: str) -> None:
    """A wrong id in a record stays there for ever, so the registry is asked what it stands for."""
    answer = await client.ask("GET", "schemas", "ids", str(schema_id))
    if not _says_the_same(answer.fields.get("schema"), schema):
        raise RegistryRefusedError(f"The schema registry gives id {schema_id} to another schema: {answer.told}.")


def _says_the_same(found: object, schema: str) -> bool:
    try:
        return isinstance(found, str) and bool(msgspec.json.decode(found) == msgspec.json.decode(schema))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
