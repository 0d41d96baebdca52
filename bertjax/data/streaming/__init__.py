"""Tables that do not fit in memory: Ray Data encodes them in one pass, and their tokens are kept on the disk."""
