"""Whether a model is well: its circuit breaker, and how much slower it has become."""
