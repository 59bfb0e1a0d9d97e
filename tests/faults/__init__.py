"""Faults: real campaigns on the real processes, a fault injected in the middle, every invariant checked afterwards."""
