"""Predictions: `predictor` loads a model folder and says what it thinks of texts."""
