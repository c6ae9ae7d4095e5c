"""The `footfall` command: one module a command, its output beside it."""
