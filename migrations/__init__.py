"""The schema's only author."""
