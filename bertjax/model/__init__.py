"""The network, one file a part of the paper: `embeddings`, `attention`, `encoder`, `bert`, `heads`."""
