"""Keeping a ledger: backup and restore, compaction, and what the doctor says."""
