"""Where a run is recorded: `tracker` is the protocol with two small trackers, `mlflow` the one for MLflow."""
