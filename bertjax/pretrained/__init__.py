"""Weights in and out: `convert` applies a table of names (`members`) strictly, `files` reads and writes tensors.

For loading, `prefixes` strips what wrappers put before the names, and `grow` resizes the embeddings for added tokens.
"""
