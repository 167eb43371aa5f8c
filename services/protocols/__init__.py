"""Protocol adapters: they decode requests, and encode answers and errors."""
