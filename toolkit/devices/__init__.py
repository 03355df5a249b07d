"""Where a bundle runs."""
