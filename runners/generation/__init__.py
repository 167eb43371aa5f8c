"""Shared by every generating engine: tokenizing, sampling, stop strings, slots, scheduling."""
