"""HTTP/1.1 on one connection: bounds, framing, the fast path, whole responses."""
