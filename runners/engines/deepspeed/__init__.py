"""DeepSpeed: one runner, and its ways over one GPU, several, or the host's memory."""
