"""Self-attention within an example (`self_attention`), its kernels, and the position encodings that enter it."""
