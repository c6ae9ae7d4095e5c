"""Where every generation and every sink stands."""
