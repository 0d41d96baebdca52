"""The settings of a run: frozen dataclasses, data only, cheap to import."""
