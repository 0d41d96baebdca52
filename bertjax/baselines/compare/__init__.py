"""A comparison of frameworks over several seeds: statistics, verdicts, report."""
