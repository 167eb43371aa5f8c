"""Job files run without a gateway, in this process or on a Ray cluster, with equal results."""
