"""Slices: subsets of the evaluated rows that are evaluated by themselves."""
