"""A harness that tries to break Footfall, and a checker that says whether it did: `python -m chaos --help`."""
