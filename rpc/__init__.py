"""The gRPC node: a server for both domains, and the client that the other services use."""
