"""Layouts of autoregressive samplers, one per file."""
