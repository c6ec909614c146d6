"""Targets: one module per format, what they share, and their registry."""
