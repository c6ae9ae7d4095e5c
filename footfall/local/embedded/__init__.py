"""Runs a real Kafka and a real PostgreSQL without Docker: see `embedded_stack`."""

from footfall.local.embedded.child_process import spawn_child
from footfall.local.embedded.stack import StackAddresses, StackOptions, embedded_stack
from footfall.local.embedded.stack_error import StackError
from footfall.local.embedded.state_lock import announce_front

__all__ = ["StackAddresses", "StackError", "StackOptions", "announce_front", "embedded_stack", "spawn_child"]
