"""Weights in and out: `convert` applies a table of names (`members`) strictly, `files` reads and writes tensors.

On the way in, `prefixes` takes off what wrappers put before the names, and `grow` makes room for added tokens.
"""
