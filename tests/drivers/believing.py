"""`python -m tests.drivers.believing front --port ..`: Footfall's front, behind a door that believes what it is told.

A request names its tenant in a header (`identity.believed`); everything behind the door is what it always is.
"""

import sys

from footfall.processes import front
from footfall.processes.identity import Door
from tests.drivers.identity import believed

if __name__ == "__main__":
    _, command, _, port = sys.argv
    assert command == "front"
    setattr(front, "load_identity", lambda *_: Door(believed, []))  # noqa: B010 - the door is a detail of that module
    sys.exit(front.run_front(int(port)))
