"""A shop that never was: its products, customers and clicks, and every model learnt from them."""
