"""`python -m chaos.planted.mutant NAME ..` plants a fault and then runs `footfall ..`."""

import sys

from chaos.planted.mutants import MUTANTS
from footfall.cli.main import main

if __name__ == "__main__":
    MUTANTS[sys.argv.pop(1)].plant()
    main()
