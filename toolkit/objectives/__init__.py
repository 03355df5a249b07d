"""How one batch becomes a loss."""
