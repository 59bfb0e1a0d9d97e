"""The version of the whole system, of the wheel and of `console.py --version`."""

__version__ = "0.2.0"
