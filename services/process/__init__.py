"""The processes of one server: start order, preflight checks, shutdown, peer workers."""
