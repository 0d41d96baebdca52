"""Tables that do not fit in memory: read once, in blocks, by Ray Data's workers; their tokens wait on the disk."""
