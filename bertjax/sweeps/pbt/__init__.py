"""Population-based training (Jaderberg et al. 2017)."""
