"""Models in MLflow: as it runs them, in its registry, and of its runs."""
