"""The network, one module per part of the paper: `embeddings`, `attention`, `encoder`, `bert`, `heads`."""
