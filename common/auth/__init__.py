"""Authentication: principals and API keys, rate limits, signatures, and protected mode on loopback."""
