"""Positions in the log: cursors, waiting until a position is visible, and the history that is served."""
