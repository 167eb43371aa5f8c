"""Trained routers beside the requests: read, reloaded, tried as canaries."""
