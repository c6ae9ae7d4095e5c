"""The HTTP kernel of every process: server, protocol bounds, middleware, envelope, health, documents."""
