"""What can be counted in a table: a module a kind of fact, from rows to a `NamedTuple` of plain values."""
