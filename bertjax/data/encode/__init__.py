"""Texts to token ids, kept ragged, and the masks of a masked language model."""
