"""Evaluation of a model on labelled rows: `evaluate_table` reads and computes, `run_report` writes the report."""
