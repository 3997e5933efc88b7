"""Artifacts: files, directories and objects that belong to experiments and trials, kept beside the log by their content."""
