"""The servers and processes that are attacked, and the load on them."""
