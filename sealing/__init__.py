"""Keys of the sealed log: who may read whose events, until the key is destroyed (docs/decisions/0042)."""
