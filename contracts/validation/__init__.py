"""Bytes in; a valid command or event out, or every problem as a sentence."""
