"""The tables and views, declared; `migrations/` creates them."""
