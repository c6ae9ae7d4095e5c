"""The sealed log as operators meet it."""
