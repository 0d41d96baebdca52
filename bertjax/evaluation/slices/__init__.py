"""Slices: parts of the judged rows that are judged by themselves."""
