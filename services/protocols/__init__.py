"""Protocol adapters: bytes to ``Request``, answers and errors back to bytes."""
