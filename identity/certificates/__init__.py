"""Machines that are known by their certificates: the list of them, and the authenticator that reads it."""
