"""The health of a model: its circuit breaker, and its slowdown."""
