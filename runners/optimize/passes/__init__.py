"""One file a pass; ``runners.optimize.registry`` lists them."""
