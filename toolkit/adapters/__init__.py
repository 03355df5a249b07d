"""How third-party models become entries, one library per file."""
