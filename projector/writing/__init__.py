"""From batches to rows: one transaction with the checkpoint, and what becomes of a batch that fails."""
