"""Sources to frames: the files that a source names, and a reader for each format."""
