"""What Kafka must allow for each step of a rewrite. It is asked before the step changes anything."""

from collections.abc import Iterable, Mapping, Sequence

from aiokafka.client import AIOKafkaClient

from brokers.rights import Operation, Right, missing_rights
from operations.refusal import RefusedError

# By step: of the old topics, and of the new ones, as far as they are there.
NEEDED: Mapping[str, tuple[Sequence[Operation], Sequence[Operation]]] = {
    "plan": (["READ"], []),
    "begin": (["READ", "DESCRIBE_CONFIGS"], []),
    "copy": (["READ"], ["READ", "WRITE"]),
    "verify": (["READ"], ["READ"]),
    "switch": (["READ", "WRITE", "ALTER_CONFIGS"], ["READ", "WRITE", "ALTER_CONFIGS"]),
    "abandon": (["READ", "ALTER_CONFIGS"], ["READ", "ALTER_CONFIGS", "DELETE"]),
    "finish": (["READ", "ALTER_CONFIGS", "DELETE"], []),
}


async def check_rights(client: AIOKafkaClient, step: str, old: Iterable[str], new: Iterable[str] = ()) -> None:
    """Raises RefusedError if Kafka does not let this user do what a step needs; KafkaError without an answer.

    A topic that this user may not even see is one that it has no right to, and not one that is not there.
    """
    of_old, of_new = NEEDED[step]
    wanted = [Right(operation, "topic", topic) for topic in old for operation in of_old]
    wanted += [Right(operation, "topic", topic) for topic in new for operation in of_new]
    missing = await missing_rights(client, wanted)
    if missing:
        raise RefusedError(
            f"Kafka does not let this user {' or '.join(map(str, missing))}. Nothing was changed. Give it the rights "
            "of a rewrite on the old topics and the new ones (docs/transport.md); then repeat the step."
        )
