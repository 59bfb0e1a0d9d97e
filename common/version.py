"""The version of the whole system; the wheel is made with it, and `console.py --version` tells it."""

__version__ = "0.2.0"
