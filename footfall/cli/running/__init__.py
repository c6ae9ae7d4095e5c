"""Commands that run something: everything on this machine, a day of traffic, one process, a migration."""
