"""Data contracts: what a table promises, checked before anything is trained."""
