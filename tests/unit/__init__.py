"""Tests without servers: one module at a time."""
