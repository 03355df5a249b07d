"""Reference models, one per file."""
