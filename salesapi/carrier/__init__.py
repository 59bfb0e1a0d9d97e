"""The carrier port through which campaigns are sent, and its HTTP adapter."""
