"""The data, training and evaluation of the fraud models."""
