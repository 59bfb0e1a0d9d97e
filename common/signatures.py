"""Signed HTTP bodies: `X-Signature: t=<unix seconds>,v1=<hex>`, an HMAC-SHA256 of the time, a dot and the body.

The scheme of Stripe's webhooks: the time is signed too, so what was overheard is worth nothing five minutes later.
"""

import hmac
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
    try:
        age = time.time() - int(stamp)
    except ValueError:
        return "the signature is missing" if not header else "the signature cannot be read"
    # Each is compared, also after a match, and in constant time: how long it takes tells nothing.
    matches = [hmac.compare_digest(_digest(secret, stamp, body), found) for secret in secrets]
    if not any(matches):
        return "the signature is of another secret or body"
    return f"the signature is {age:.0f} s old" if abs(age) > _WINDOW else ""


def _digest(secret: bytes, stamp: bytes, body: bytes | bytearray) -> bytes:
    return hmac.digest(secret, stamp + b"." + body, "sha256").hex().encode()
