"""What operators do: set up, look, replay, rebuild, mend. Called by the command line."""
