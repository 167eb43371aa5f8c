"""A job file run without a gateway: here, or over a Ray cluster. Same rows, runners, results."""
