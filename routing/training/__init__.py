"""Fitting routers to recorded outcomes: offline, may use scikit-learn; serving never imports it."""
