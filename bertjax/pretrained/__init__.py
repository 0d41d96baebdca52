"""Weights in and out: `rules` is the table of names, `convert` applies it strictly, `files` reads and writes them.

On the way in, `prefixes` takes off what wrappers put before the names, and `grow` makes room for added tokens.
"""
