"""Wavefronts: pictures computed several rows at once, each some steps behind the row above."""
