"""The simulated carrier: one engine behind an HTTP server, with reports, faults and counts as a real one has."""
