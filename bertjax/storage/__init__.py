"""Safe files: atomic replacement, append-only logs, folder locks. Imports nothing of the layers above."""
