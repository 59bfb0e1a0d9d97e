"""Counts of this process since its start: what has passed through it, and what has failed in it.

Whoever does something counts it where it is done, `counts["callbacks"] += 1`; nothing else happens there. `counts` is
shown on /system once a second, `failures` stands in /metrics.
"""

from collections import defaultdict

counts: defaultdict[str, int] = defaultdict(int)

# By kind and name: `task` (a background task that failed), `observer` (a callback of ours that raised), `job` (one that
# raised), `channel` and `queue` (a message, or a member, that could not be read and was dropped).
failures: defaultdict[tuple[str, str], int] = defaultdict(int)


def count_failure(kind: str, name: str) -> None:
    """Count a failure that was survived."""
    failures[kind, name] += 1
