"""How a value may travel: framed as Confluent's serializers do it, and with a CloudEvent's headers."""
