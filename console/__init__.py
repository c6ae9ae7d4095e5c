"""The console: what an operator sees of Footfall in a browser, and what can be done there."""
