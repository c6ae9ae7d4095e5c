"""`footfall projector` with no projection but `processed_events`: what the drain is compared with a bare COPY as.

The list is emptied before anything that reads it is imported; in the product it is code, not a setting, because two
projectors with different lists would make a read model that no log explains.
"""

import sys

from projector import projections

projections.PROJECTIONS = ()

if __name__ == "__main__":
    from footfall.processes.projector import run_projector_process

    sys.exit(run_projector_process(None))
