"""A whole run: its input, its folder, and what it leaves there."""
