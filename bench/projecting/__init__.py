"""From the topic to rows: how fast, how soon visible, and what a rebalance or a fail-over costs."""
