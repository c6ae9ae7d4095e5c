"""The `footfall` command line: one module for each command; `output/` prints its results."""
