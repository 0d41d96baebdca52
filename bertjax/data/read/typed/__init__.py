"""Formats whose cells have types."""
