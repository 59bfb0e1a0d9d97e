"""The callback ceiling: `/callback` on the same HTTP server, parsing the same reports, with no database behind it.

python -m benchmarks.ceiling PORT [SECRET]
"""

import sys
from collections.abc import Sequence
from typing import Any

from starlette.applications import Starlette

from bulksms.report_writer import Done, Outcome
from bulksms.reports import Step
from common.web import server
from salesapi.salesapi.callback_protocol import protocol_factory
from salesapi.salesapi.callback_signatures import Signatures


class NoDatabase:
    """Says of every report that it was applied."""

    def submit(self, steps: Sequence[Step], done: Done) -> None:
        done(Outcome(len(steps), 0, 0))


if __name__ == "__main__":
    writer: Any = NoDatabase()
    signatures = Signatures([secret.encode() for secret in sys.argv[2:]])
    app = Starlette(routes=[])
    server.run(server.serve(app, "127.0.0.1", int(sys.argv[1]), http=protocol_factory(writer, signatures)))
