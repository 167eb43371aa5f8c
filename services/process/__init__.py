"""Processes: what starts first, what is refused, what ends, who the other workers are."""
