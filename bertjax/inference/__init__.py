"""Finished models: `predictor` answers texts, `evaluate_table` evaluates on a labelled table."""
