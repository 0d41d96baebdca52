"""Rows: cells to texts and labels, preprocessed and counted."""
