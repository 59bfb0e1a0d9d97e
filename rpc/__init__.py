"""The gRPC node: its server answers for both domains, its client is what the other services ask with."""
