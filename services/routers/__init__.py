"""Trained routers of a gateway: loaded, reloaded, tried as canaries."""
