"""Coverage-guided fuzzing of the C code; `python -m tests.fuzz` runs it, `make test` replays."""
