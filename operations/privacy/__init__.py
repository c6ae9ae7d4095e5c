"""What the law asks for: erase a user, hand out what is kept of a user, forget what is old (docs/privacy.md)."""
