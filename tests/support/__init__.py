"""Helpers of the tests: the running system, clients, a browser, invariants."""
