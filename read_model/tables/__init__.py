"""Declarations of the tables and views; `migrations/` creates them."""
