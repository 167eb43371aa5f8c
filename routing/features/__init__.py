"""What the router sees of an input, by kind of input."""
