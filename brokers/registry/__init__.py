"""A schema registry beside Kafka: how it is reached, and how the topic's schema is registered there."""
