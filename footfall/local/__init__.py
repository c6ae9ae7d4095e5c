"""Runs Footfall on one machine without Docker: embedded servers, `footfall up`, the demo."""
