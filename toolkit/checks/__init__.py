"""Questions asked of a variant, one per file."""
