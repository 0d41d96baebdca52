"""Functions on all devices: data parallelism, ahead-of-time compiled programs, and functions made once per settings."""
