"""Which faults are injected, when, and what ends a round."""
