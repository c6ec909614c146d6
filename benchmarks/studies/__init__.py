"""What produced the committed tables of benchmarks/results. Not in the wheel."""
