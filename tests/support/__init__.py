"""What the tests share: the running system, clients, a browser, invariants. No tests."""
