"""Tests of what a user would notice, on real servers."""
