"""The event loop of every process: uvloop's, or asyncio's own on Windows, which uvloop does not support."""

import asyncio
import sys

if sys.platform == "win32":
    new_event_loop = asyncio.new_event_loop
else:
    from uvloop import new_event_loop

__all__ = ["new_event_loop"]
