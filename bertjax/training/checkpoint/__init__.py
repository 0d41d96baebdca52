"""Checkpoints of the training state, with Orbax: atomic, checksummed, and restored strictly."""
