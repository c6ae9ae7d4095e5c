"""How every process and command reaches Kafka: security settings, TLS, tokens, and why a broker cannot be used."""
