"""transformers' torch models with our weights, on our batches."""
