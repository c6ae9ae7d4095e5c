"""The programs that send and read: one process each, so that a client does not share the loop of what it measures."""
