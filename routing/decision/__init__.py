"""One decision: candidates, limits, policy, exploration, session."""
