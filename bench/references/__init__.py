"""The bare work with which each figure is compared."""
