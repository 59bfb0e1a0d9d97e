"""Imported by every process with this folder on its PYTHONPATH: makes background tasks and observers fail.

INJECT_ONCE: the first run of each background task raises after its start. INJECT_TASK: the task of this name raises
in every run. INJECT_OBSERVERS: every observer of the report writer raises.
"""

import asyncio
import os
from typing import Any

if os.environ.get("INJECT_ONCE") or os.environ.get("INJECT_TASK"):
    from common.supervisor import Supervisor, Work

    _start = Supervisor.start
    _failing = os.environ.get("INJECT_TASK")

    def start(supervisor: Supervisor, name: str, work: Work, *, once: bool = False) -> None:
        runs = 0

        async def failing() -> None:
            nonlocal runs
            runs += 1
            if _failing == name or (not _failing and runs == 1):
                await asyncio.sleep(0.2)
                raise RuntimeError("injected")
            await work()

        _start(supervisor, name, failing, once=once)

    setattr(Supervisor, "start", start)  # noqa: B010

if os.environ.get("INJECT_OBSERVERS"):
    from bulksms.report_writer import ReportWriter

    _init = ReportWriter.__init__

    def init(writer: ReportWriter, *args: Any, **options: Any) -> None:
        def fail(what: object) -> None:
            raise RuntimeError("injected")

        _init(writer, *args, **{**options, "on_entries": fail, "on_changed": fail, "on_flush": fail})

    setattr(ReportWriter, "__init__", init)  # noqa: B010
