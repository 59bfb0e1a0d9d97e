"""HTTP for the services: serving, protocol limits, problem details, OpenAPI."""
