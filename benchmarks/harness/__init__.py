"""What the benchmarks share: baseline, sessions, isolation, stopwatch, profiles."""
