"""Runners: each trains or queries one framework on the same prepared input, in a process of its own."""
