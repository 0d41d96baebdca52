"""The training step: a pure function of state and batch, compiled for all devices."""
