"""The work behind the operators' commands: setup, status, replay, rebuild, dead letters, gaps, reporters."""
