"""Simple baselines (majority, TF-IDF, frozen embeddings, ...) on the network's rows, with the same evaluator."""
