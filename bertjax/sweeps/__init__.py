"""Sweeps on Ray Tune: `driver` runs each `trial` that `searchers` choose from `search_space`; `ledger` records them."""
