"""Train, validation and test rows: splitters, leaks between them, balance of classes."""
