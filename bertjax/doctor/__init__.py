"""Checks of this machine, and how to fix what fails; each check returns a value."""
