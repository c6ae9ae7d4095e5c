"""The log as it grows: the feed, the stream of Server-Sent Events, the status of one event."""
