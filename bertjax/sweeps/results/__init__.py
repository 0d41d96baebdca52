"""The results of a sweep, read from its folder: tables, figures and the HTML page."""
