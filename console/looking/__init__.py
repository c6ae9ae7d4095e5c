"""What the console's process looks at by itself, so that a page reads memory and waits for no server."""
