"""The simulated shop's products, customers, queries and reviews."""
