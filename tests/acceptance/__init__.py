"""Tests of the whole system as its users call it: campaigns, command line, dashboard, docs, operation."""
