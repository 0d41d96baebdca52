"""Charts drawn as SVG: `draw` turns the data of a chart into an element of a page."""
