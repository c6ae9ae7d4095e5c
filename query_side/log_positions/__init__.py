"""Positions in the log: cursors, waiting until a position is visible, and which history is served."""
