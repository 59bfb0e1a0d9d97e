"""Refused attempts to change something, for the audit log: throttled, bounded, and written in batches.

An attempt is written up to a second later, and never delays or fails the request. Beyond the limits attempts are only
counted; the next entry of the same caller and action says how many were left out before it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

import structlog
from starlette.requests import Request
from starlette.responses import Response

from common import audit_log
from common.audit_log import Record
from common.auth.actor import actor, target
from common.database import Database
from common.observability.counters import count_failure
from common.observability.logs import Throttle
from common.web.problems import Problem

log = structlog.get_logger()

Endpoint = Callable[[Request], Awaitable[Response]]

_RECORDED = (402, 403, 404, 409, 410, 422, 503)  # 503: a run that is recorded is finished later by the worker
_PERIOD = 1.0  # seconds between two batches
_MAX_WAITING = 1_000  # entries in memory
_WINDOW = 60.0  # seconds
_MAX_PER_CALLER = 20  # entries in a window of one caller and action
_MAX_IN_ALL = 600  # entries in a window
_MAX_CALLERS = 10_000  # in memory


class Refusals:
    """Records the refused attempts of one service."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[Record] = deque()
        self._window_ends = 0.0
        self._counts: dict[object, int] = {}
        self._left_out: dict[object, int] = {}
        self._in_all = 0
        self._may_log = Throttle()

    def around(self, action: str, endpoint: Endpoint) -> Endpoint:
        """The endpoint of an action, whose refusals are recorded."""

        async def recorded(request: Request) -> Response:
            try:
                return await endpoint(request)
            except Problem as problem:
                if problem.status in _RECORDED:
                    self._add(request, action, f"{problem.status} {problem.title}")
                raise

        return recorded

    def _add(self, request: Request, action: str, outcome: str) -> None:
        who, what = actor(request), target(request)
        caller = (who.key_id, action)
        if not self._admits(caller):
            self._left_out[caller] = self._left_out.get(caller, 0) + 1
            return
        left_out = self._left_out.pop(caller, 0)
        self._waiting.append(
            Record(
                who,
                action,
                who.workspace_id or what.workspace_id,
                what.object_id,
                outcome,
                {"left_out_before": left_out} if left_out else {},
            )
        )

    def _admits(self, caller: object) -> bool:
        now = time.monotonic()
        if now >= self._window_ends:
            self._window_ends, self._in_all = now + _WINDOW, 0
            self._counts.clear()
        if len(self._left_out) >= _MAX_CALLERS:
            self._left_out.clear()
        count = self._counts.get(caller, 0)
        if count >= _MAX_PER_CALLER or self._in_all >= _MAX_IN_ALL or len(self._waiting) >= _MAX_WAITING:
            return False
        self._counts[caller] = count + 1
        self._in_all += 1
        return True

    async def run(self) -> None:
        """Write what was recorded, every second, until cancelled."""
        while True:
            await asyncio.sleep(_PERIOD)
            await self.flush()

    async def flush(self) -> None:
        """Write what was recorded; while the database does not answer it waits, up to the limit."""
        batch = list(self._waiting)
        if not batch:
            return
        try:
            await audit_log.write_all(self._database, batch)
        except Exception as error:
            count_failure("audit log", "refused attempts")
            if self._may_log():
                log.warning(
                    "refused attempts are written later", entries=len(batch), reason=str(error) or type(error).__name__
                )
            return
        for _ in batch:
            self._waiting.popleft()
