"""The network, one room a part of the paper: `embeddings`, `attention`, `encoder`, `bert`, `heads`."""
