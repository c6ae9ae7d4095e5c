"""An archive's files and its manifest, and where they lie."""
