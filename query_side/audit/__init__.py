"""What the query side writes into the audit log, by the one function that its read-only role may call."""
