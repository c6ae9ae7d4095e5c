"""Apache Kafka: its jars, and one broker of them."""
