"""What a command costs: alone, in batches, beside greedy clients, sealed, traced."""
