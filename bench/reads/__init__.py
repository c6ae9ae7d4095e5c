"""What a query costs: pages, streams, the console, and tables that grow."""
