"""What has flowed through this process since its start, counted by name: shown on /system, once a second.

Whoever does something counts it where it is done, `counts["callbacks"] += 1`; nothing else happens there.
"""

from collections import defaultdict

counts: defaultdict[str, int] = defaultdict(int)
