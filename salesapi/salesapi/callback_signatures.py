"""Verify the signatures of callbacks, made with a secret shared with the carrier."""

from collections.abc import Sequence

import structlog

from common.auth import signatures
from common.observability.logs import Throttle
from common.web.problems import Problem

log = structlog.get_logger()


class Signatures:
    """Checks callbacks against the valid secrets; without secrets all pass. `refused` counts invalid signatures."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = [signatures.Secret(secret) for secret in secrets]
        self._may_log = Throttle()
        self.refused = 0

    def check(self, header: bytes, body: bytes | bytearray) -> None:
        """Raise Problem 401 unless the body was signed recently with one of the secrets."""
        if not self._secrets or not (fault := signatures.signature_error(self._secrets, header, body)):
            return
        self.refused += 1
        if self._may_log():
            log.warning("callbacks refused", reason=fault, refused=self.refused)
        raise Problem(
            401,
            "Signature not valid",
            f"{fault}; send the header X-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of t, a dot and the body>",
            headers={"WWW-Authenticate": "Signature"},
        )
