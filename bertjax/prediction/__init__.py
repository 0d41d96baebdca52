"""The forward pass on all devices: one way from examples to outputs, for evaluation and prediction alike."""
