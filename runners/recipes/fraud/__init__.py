"""The fraud models' own data, training and evaluation."""
