"""Flags of the command line, made of the dataclasses of settings."""
