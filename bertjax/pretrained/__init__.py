"""Weights in and out: `rules` is the table of names, `convert` applies it strictly, `files` reads and writes them."""
