"""A whole run: preparing its input, training, its folder, its results."""
