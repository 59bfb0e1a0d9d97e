"""The runtime kernel that every process shares; it knows nothing of the domains."""
