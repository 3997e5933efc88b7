"""Running any program as a trial: what ``ledger worker`` and ``ledger run`` do."""
