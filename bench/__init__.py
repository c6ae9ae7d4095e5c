"""Measures each performance goal beside the bare work that it is compared with."""
