"""Simple models on the same rows as the network, by the same evaluator: what its scores are worth."""
