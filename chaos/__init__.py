"""Injects faults into Footfall and checks that no event is lost, doubled or wrong: see `python -m chaos --help`."""
