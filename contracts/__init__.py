"""What both ends of the topic agree on: the event, its rules, its bytes, and where it travels."""
