"""Logged requests decided again under another policy."""
