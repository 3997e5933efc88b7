"""Backends: where the log is kept."""
