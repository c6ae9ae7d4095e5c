"""SQL in, HTTP out. Reads only, with a read-only role."""
