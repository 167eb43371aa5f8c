"""Evaluation of routers on recorded outcomes: offline, never imported by serving."""
