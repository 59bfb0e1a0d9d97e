"""Tests of the campaign domain by itself."""
