"""Other model servers with the same fraud model, each set up as its documentation recommends."""
