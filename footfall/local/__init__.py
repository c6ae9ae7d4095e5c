"""Footfall on one machine without Docker: embedded servers, `up`, the demo."""
