"""The HTTP interface of commands: one command, a batch, and the documents that describe them."""
