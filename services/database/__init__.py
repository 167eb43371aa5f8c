"""The database of batches and model aliases, and its migrations."""
