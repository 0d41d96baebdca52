"""Train, validation and test rows: labelled tables, splitters, leaks, class balance."""
