"""The gateway's HTTP server: routes, admission, the fast path, authorisation."""
