"""The audit log, for operators: what a deed writes, the list, and the proof that nothing was changed."""
