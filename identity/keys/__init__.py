"""API keys: their format, the register that says who has which, and the topic that carries it (docs/identity.md)."""
