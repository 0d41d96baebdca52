"""Parity: numerical differences between the network and the PyTorch model of the same checkpoint."""
