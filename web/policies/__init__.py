"""Request policies: what every request of every process passes before anything else of it is looked at."""
