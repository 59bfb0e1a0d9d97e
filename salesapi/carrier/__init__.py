"""The carrier: the port that campaigns are sent through, and the simulated carrier behind it."""
