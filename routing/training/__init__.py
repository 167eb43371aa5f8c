"""Fitting routers to recorded outcomes: offline, may import scikit-learn; never serves."""
