"""The passes, one module each; ``runners.optimize.registry`` lists them."""
