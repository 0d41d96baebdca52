"""PyTorch beside JAX: transformers' own models, fed and trained as ours. The only home of torch."""
