"""HTTP messages on ASGI, free of any protocol."""
