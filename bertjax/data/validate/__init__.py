"""Data contracts: expectations of a table, checked before training."""
