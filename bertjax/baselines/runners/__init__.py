"""Runners: each trains and measures one framework, in a process of its own."""
