"""The client of the two web services, and the commands of `console.py`."""
