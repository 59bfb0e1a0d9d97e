"""Logging for every process: structlog over the standard library, so that libraries' lines look like ours."""

import logging
import re
import sys
import time
from typing import Any

import structlog

from common.redact import without_passwords

# Libraries whose info lines repeat what the system logs itself.
_QUIET = ("uvicorn.access", "arq.worker", "arq.connections", "aiosqlite", "alembic.runtime.plugins")

_MAX_KINDS, _MAX_KIND = 1_000, 200  # kinds of lines that are remembered; characters of one

_READY_LOGGER = "bulksms.ready"  # its lines are shown at every log level

_PERSONAL = (
    (re.compile(r"(\+[1-9]\d{3})\d{1,9}(\d{2})(?!\d)"), r"\1***\2"),  # a number in E.164
    (re.compile(r"(bsk_[0-9a-f]{32})_[\w-]+"), r"\1_***"),  # an API key
)


def masked(text: str) -> str:
    """Mask what logs must not keep: the middle of phone numbers, secrets of API keys, passwords in addresses."""
    for pattern, replacement in _PERSONAL:
        text = pattern.sub(replacement, text)
    return without_passwords(text)


class Throttle:
    """Allows a log line once per `period` seconds: for a warning that could repeat with every request."""

    def __init__(self, period: float = 10.0) -> None:
        self._period = period
        self._next = 0.0

    def __call__(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._period
        return True


class RepeatFilter(logging.Filter):
    """Lets the first warnings and errors of one kind through in a period, and counts the others.

    A kind is a logger, a level and a text without its values. The first line of the next period says in `left_out` how
    many were dropped. Lines of other levels pass.
    """

    def __init__(self, most: int = 10, period: float = 10.0) -> None:
        super().__init__()
        self._most = most
        self._period = period
        self._kinds: dict[tuple[str, int, str], list[float]] = {}  # the end of the period, lines, lines left out

    def filter(self, record: logging.LogRecord) -> bool:
        if not logging.WARNING <= record.levelno < logging.CRITICAL:
            return True
        message: Any = record.msg  # a dict if structlog made it
        is_ours = isinstance(message, dict)
        text = str(message.get("event") if is_ours else message)
        kind, now = (record.name, record.levelno, text[:_MAX_KIND]), time.monotonic()
        state = self._kinds.get(kind)
        if state is None or now >= state[0]:
            if len(self._kinds) >= _MAX_KINDS:
                self._kinds.clear()
            left_out = int(state[2]) if state else 0
            self._kinds[kind] = [now + self._period, 1, 0]
            if left_out and is_ours:
                record.msg = {**message, "left_out": left_out}
            elif left_out:
                record.msg, record.args = f"{record.getMessage()} ({left_out} more were left out)", ()
            return True
        if state[1] < self._most:
            state[1] += 1
            return True
        state[2] += 1
        return False


def ready(process: str) -> None:
    """Log that a process is ready; the launcher waits for this line."""
    structlog.get_logger(_READY_LOGGER).info(f"{process} is ready")


def configure(level: str, service: str) -> None:
    """Log to standard error: readable lines on a terminal, JSON elsewhere."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    terminal = sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *([] if terminal else [structlog.processors.format_exc_info]),
                renderer,
                _mask,
            ],
        )
    )
    handler.addFilter(RepeatFilter())
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(level.upper())
    logging.getLogger(_READY_LOGGER).setLevel(logging.INFO)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(service=service)


def _mask(logger: Any, method: str, line: Any) -> str:
    # The finished line, so that nested values and tracebacks are masked too.
    return masked(str(line))
