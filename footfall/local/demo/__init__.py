"""`footfall demo`: a day of traffic through everything, and an exact account of it."""
