"""A command as a process: its messages, exit status, signals, and what it sets before JAX starts."""
