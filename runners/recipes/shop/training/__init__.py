"""What the recipes of the shop share: training, graphs, measures."""
