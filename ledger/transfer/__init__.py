"""Moving records: JSON lines out and in, and merging ledgers."""
