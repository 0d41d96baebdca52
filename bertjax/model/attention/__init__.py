"""Attention of a token to the tokens of its example, and how positions enter it: `self_attention` is the layer."""
