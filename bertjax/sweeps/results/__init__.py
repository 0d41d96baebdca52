"""The results of a sweep, read from its folder, as tables, pictures and a page."""
