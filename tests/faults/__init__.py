"""Faults on purpose: damaged and forged files for every reader and manifest, and kills of every
writer. `python -m tests.faults` runs all of it and prints a table.
"""
