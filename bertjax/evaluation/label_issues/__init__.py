"""Label errors by confident learning: of a model's test rows here, of training rows in `cross_validation`."""
