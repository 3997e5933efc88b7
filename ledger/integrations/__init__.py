"""Adapters to other tools: each is loaded when it is used, and brings its own dependencies as an extra."""
