"""Label issues of training rows by k-fold cross-validation: a row is judged by a model that was not trained on it."""
