"""Delimited text: the dialect of a file, and its rows."""
