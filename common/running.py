"""The addresses of the embedded servers that a launcher of this data folder runs now, with their passwords.

So `console.py key create` and others need no configuration while `up` or `servers` runs. Only their owner can read it.
"""

import json
import os
from pathlib import Path

FILE = "servers.json"


def running_servers(folder: Path) -> dict[str, str]:
    """DS_DSN, SALESDB_DSN and REDIS_URL of the embedded servers of this data folder; empty if none run."""
    try:
        kept = json.loads((folder / FILE).read_text())
        os.kill(kept.pop("launcher"), 0)  # a launcher that was killed leaves the file, and its servers end with it
    except (OSError, ValueError):
        return {}
    return {str(name): str(address) for name, address in kept.items()}
