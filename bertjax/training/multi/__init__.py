"""More than one run or process: several seeds, stacked seeds, the workers of a Ray cluster."""
