"""Tests of what a user would notice, on real servers: unit, integration, acceptance, faults; helpers in support."""
