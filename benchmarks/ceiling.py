"""The callback ceiling: `/callback` on the same HTTP server, parsing the same reports, with no database behind it.

python -m benchmarks.ceiling PORT [SECRET]
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import uvloop
from starlette.applications import Starlette

from bulksms.apply_reports import DeliveryReport
from bulksms.report_writer import OnDone, Outcome
from common.web import server
from salesapi.salesapi.callback import Callback
from salesapi.salesapi.callback_signatures import Signatures
from salesapi.salesapi.connection_protocol import protocol_factory


class NoDatabase:
    """Says of every report that it was applied."""

    def submit(self, reports: Sequence[DeliveryReport], on_done: OnDone) -> None:
        on_done(Outcome(len(reports), 0, 0))

    async def write(self, reports: Sequence[DeliveryReport]) -> Outcome:
        return Outcome(len(reports), 0, 0)


async def _main(port: int, secrets: Sequence[str]) -> None:
    writer: Any = NoDatabase()
    callback = Callback(writer, Signatures([secret.encode() for secret in secrets]))
    await server.serve(Starlette(routes=[]), "127.0.0.1", port, asyncio.Event(), http=protocol_factory(callback))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(int(sys.argv[1]), sys.argv[2:]))
