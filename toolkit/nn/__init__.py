"""Branch-free layers and transforms."""
