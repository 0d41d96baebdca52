"""Finished models: `predictor` answers texts, `batch` answers files of any size."""
