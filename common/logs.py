"""One way to log: structlog over the standard library, so that libraries' lines look like ours."""

import logging
import sys

import structlog

# These say at info what the system says better itself.
_QUIET = ("uvicorn.access", "arq.worker", "arq.connections", "aiosqlite", "alembic.runtime.plugins")

_ALWAYS = "bulksms.ready"  # the logger whose lines every level shows


def ready(what: str) -> None:
    """Say that a process is ready: whoever started it looks for this line."""
    structlog.get_logger(_ALWAYS).info(f"{what} is ready")


def configure(level: str, service: str) -> None:
    """Send every log line of the process to standard error: readable on a terminal, JSON elsewhere."""
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
            ],
        )
    )
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(level.upper())
    logging.getLogger(_ALWAYS).setLevel(logging.INFO)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(service=service)
