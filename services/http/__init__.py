"""HTTP messages on ASGI, independent of the protocols."""
