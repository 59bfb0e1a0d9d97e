"""The workers of webapi."""
