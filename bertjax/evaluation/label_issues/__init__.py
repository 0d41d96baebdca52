"""Labels that are doubtful by confident learning: `label_issues` for a model's test rows, its parts for folds too."""
