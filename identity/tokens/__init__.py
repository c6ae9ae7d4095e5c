"""Access tokens of a provider of identities: RFC 9068, checked as RFC 8725 demands."""
