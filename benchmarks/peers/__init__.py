"""Other servers in front of the same fraud model, each as its own documentation recommends."""
