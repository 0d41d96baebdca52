"""From scores and labels to numbers: a `Report` of each task, by class, and averaged over seeds."""
