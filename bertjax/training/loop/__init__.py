"""The training loop and its callbacks: evaluation, checkpoints, early stopping, logging, progress."""
