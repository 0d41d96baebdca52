"""Examples to batches: order, packing, the few fixed shapes of a run, prefetching."""
