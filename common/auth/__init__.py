"""Who may call: principals and their keys, rate limits, signatures, and what listens on loopback only."""
