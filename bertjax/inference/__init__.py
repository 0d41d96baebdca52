"""Inference with a trained model: `predictor` answers texts, `batch` files of any size, `explanations` says why."""
