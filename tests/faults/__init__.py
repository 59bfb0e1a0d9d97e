"""Faults: real campaigns on the real processes, struck in the middle, every invariant checked afterwards."""
