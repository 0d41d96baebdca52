"""Rows: cells parsed to texts and labels, preprocessed and counted."""
