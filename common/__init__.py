"""What every process of the system needs, and nothing of its domains."""
