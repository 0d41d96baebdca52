"""What a model is worth: `metrics` computes, `report` shows."""
