"""One request through the gateway: decide, run, fall back, account."""
