"""`footfall sink`."""
