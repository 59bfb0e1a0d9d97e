"""HTTP for the services: server, protocol limits, problem details, OpenAPI."""
