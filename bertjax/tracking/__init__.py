"""Where a run is recorded: the `Tracker` protocol and its implementation for MLflow."""
