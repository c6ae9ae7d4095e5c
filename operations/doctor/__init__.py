"""Finds what is wrong with a running Footfall, or soon will be, and says for each what to do."""
