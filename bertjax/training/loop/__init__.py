"""The training loop, and what follows a step: evaluation, checkpoints, early stopping, logging, progress."""
