"""Training, graphs and metrics that the shop's recipes share."""
