"""Label issues of training rows: each is judged by a model that did not see it, one of k."""
