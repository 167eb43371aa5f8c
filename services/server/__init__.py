"""The gateway as a server: routes, admission, the fast path, who may call."""
