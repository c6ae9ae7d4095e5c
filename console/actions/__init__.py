"""What an operator may do: by the same `operations/` as the command line."""
