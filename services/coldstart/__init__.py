"""Answering the first image fast: the project's engine and task without BentoML's imports."""
