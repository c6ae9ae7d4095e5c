"""The command side's own request policies, one a file."""
