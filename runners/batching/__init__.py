"""What stands between requests and one run: queue, batch, threads."""
