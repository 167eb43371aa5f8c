"""The DeepSpeed engine: one runner, with modes for one GPU, several GPUs, or the host's memory."""
