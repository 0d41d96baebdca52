"""Running functions on all devices: data parallelism, the store of compiled programs, functions made once."""
