"""A simulated shop: its products, customers and clicks, and the models trained on them."""
