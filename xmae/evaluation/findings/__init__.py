"""Findings of the paper as commands: data efficiency, variability, pulse delay, transfer."""
