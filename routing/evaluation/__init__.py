"""How good a router is on recorded outcomes: offline, never imported by serving."""
