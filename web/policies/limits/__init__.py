"""How much one address, one principal and one tenant may ask for, and how much of a process one of them may hold."""
