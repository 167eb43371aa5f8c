"""Features of the inputs, by kind of input."""
