"""What the benchmarks share: sides that train, and how they are timed."""
