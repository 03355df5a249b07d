"""Runtimes, one per file."""
