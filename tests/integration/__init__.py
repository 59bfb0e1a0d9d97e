"""Tests of one service or domain against real PostgreSQL and Valkey."""
