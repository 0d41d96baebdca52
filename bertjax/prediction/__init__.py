"""The forward pass over any number of examples, packed and on all devices, for evaluation and inference alike."""
