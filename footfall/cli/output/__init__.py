"""What the commands print: tables, bars and JSON."""
