"""The engines that a sink can write to: one module or folder for each."""
