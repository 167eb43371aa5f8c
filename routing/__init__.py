"""The decision: which model answers a request. Pure Python and numpy; no I/O, no clock."""
