"""Parity: how far the network departs from the torch model of the same checkpoint."""
