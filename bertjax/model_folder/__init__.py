"""A model folder in Hugging Face's layout: weights, architecture, labels and tokenizer, read and written."""
