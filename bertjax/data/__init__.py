"""Text in, batches out: `table` and `sources` read, `labels` and `split` prepare, `tokenize`, `packing`, `batches`."""
