"""The log as it grows: the feed in pages, the stream of Server-Sent Events, and the status of one event."""
