"""The identity policies of applications under test."""

from contracts.event import DEFAULT_TENANT
from web.policies.principal import OpenDoor

OPEN = OpenDoor(DEFAULT_TENANT)
