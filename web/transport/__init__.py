"""TLS of the process's own port: its certificate, and the certificates of its clients."""
