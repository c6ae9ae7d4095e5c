"""Runs `footfall projector` with `processed_events` as its only table, for the comparison with a bare COPY.

It empties the list of projections before any module reads it. In the product the list is code and not a setting:
projectors with different lists would make a read model that cannot be rebuilt from the log.
"""

import sys

from projector import projections

projections.PROJECTIONS = ()

if __name__ == "__main__":
    from footfall.processes.projector import run_projector_process

    sys.exit(run_projector_process(None))
