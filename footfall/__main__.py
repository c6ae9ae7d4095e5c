"""`python -m footfall` is `footfall`."""

from footfall.cli.main import main

main()
