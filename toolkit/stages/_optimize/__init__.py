"""How the optimize stage tries, judges and times rewrites."""
