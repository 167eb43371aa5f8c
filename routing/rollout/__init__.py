"""Traffic between two versions of a model, and the test of the new one."""
