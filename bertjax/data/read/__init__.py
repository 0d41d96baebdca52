"""Files to frames: which files a name leads to, and one reader a format."""
