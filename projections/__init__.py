"""Tables, folded from the log of a ledger on demand."""
