"""Counters of what this process has done, and of what has failed in it, since its start.

Used as `counters[topology.CALLBACKS] += 1`, with the names in common/topology.py. The heartbeat sends `counters`, and
/system shows their rates; `failures` are shown in /metrics.
"""

from collections import defaultdict

counters: defaultdict[str, int] = defaultdict(int)

# By kind and name: `task`, `observer` and `job` (those that raised an error), `channel` and `queue` (messages or jobs
# that could not be read and were dropped).
failures: defaultdict[tuple[str, str], int] = defaultdict(int)


def count_failure(kind: str, name: str) -> None:
    """Count a failure from which the process has recovered."""
    failures[kind, name] += 1
