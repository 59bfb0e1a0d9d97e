"""What this process has done since its start, and what has failed in it, counted by name.

Whoever does something counts it there: `counters[topology.CALLBACKS] += 1`. The heartbeat sends `counters`, and /system
shows their rates; their names stand in common/topology.py. `failures` stands in /metrics.
"""

from collections import defaultdict

counters: defaultdict[str, int] = defaultdict(int)

# By kind and name: `task` (a background task that failed), `observer` (a callback of ours that raised), `job` (one that
# raised), `channel` and `queue` (a message, or a member, that could not be read and was dropped).
failures: defaultdict[tuple[str, str], int] = defaultdict(int)


def count_failure(kind: str, name: str) -> None:
    """Count a failure that was survived."""
    failures[kind, name] += 1
