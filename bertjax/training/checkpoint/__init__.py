"""Checkpoints: the training state saved with Orbax, sealed, and restored strictly."""
