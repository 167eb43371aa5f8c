"""The shop that never was: its products, customers, queries and reviews."""
