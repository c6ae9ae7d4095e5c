"""The processes: each module imports only what its process runs."""
