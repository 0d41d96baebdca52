"""Sweeps: `space` says what varies, `config` what a sweep is, `driver` runs it on Ray Tune, `results` reads it back."""
