"""How shipped weights and docs/targets.md are made. Not in the wheel."""
