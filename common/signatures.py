"""Signed HTTP bodies: `X-Signature: t=<unix seconds>,v1=<hex>`, an HMAC-SHA256 of the time, a dot and the body.

The scheme of Stripe's webhooks: the time is signed too, so what was overheard is worth nothing five minutes later.
"""

import hmac
import math
import time
from collections.abc import Sequence

HEADER = "X-Signature"
_WINDOW = 300  # seconds


def sign(secret: bytes, body: bytes, now: float) -> bytes:
    """The header's value for a body sent at `now` (unix seconds)."""
    stamp = b"%d" % now
    return b"t=%b,v1=%b" % (stamp, _digest(secret, stamp, body))


def fault(secrets: Sequence[bytes], header: bytes, body: bytes | bytearray) -> str:
    """What is wrong with a signature; empty if one of the secrets made it, for this body, just now."""
    stamp, _, found = header.removeprefix(b"t=").partition(b",v1=")
    for secret in secrets:
        if hmac.compare_digest(_digest(secret, stamp, body), found):
            return _too_old(stamp)
    return "the signature is of another secret or body" if header else "the signature is missing"


def _too_old(stamp: bytes) -> str:
    age = time.time() - int(stamp) if stamp.isdigit() else math.inf
    return f"the signature is {age:.0f} s old" if abs(age) > _WINDOW else ""


def _digest(secret: bytes, stamp: bytes, body: bytes | bytearray) -> bytes:
    return hmac.digest(secret, stamp + b"." + body, "sha256").hex().encode()
