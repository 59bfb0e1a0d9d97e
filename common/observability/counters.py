"""What this process has done since its start, counted by name: its heartbeat sends the totals, /system shows the rates.

Whoever does something counts it there: `counters[topology.CALLBACKS] += 1`. The names stand in common/topology.py.
"""

from collections import defaultdict

counters: defaultdict[str, int] = defaultdict(int)
