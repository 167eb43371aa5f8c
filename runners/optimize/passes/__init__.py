"""One file a pass; ``runners.optimize.roster`` lists them."""
