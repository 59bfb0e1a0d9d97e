"""A campaign is one trace through all processes, at whoever takes OTLP."""

import gzip
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from common.observability import tracing
from local.launcher import System
from tests.support.commands import run


class Span(NamedTuple):
    service: str
    name: str
    trace: str
    span: str
    parent: str


class Collector(ThreadingHTTPServer):
    """A server that takes traces as OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Span] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
            self.spans += [
                Span(service, span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                for scope in resource.scope_spans
                for span in scope.spans
            ]


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.take(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def test_a_run_is_one_trace_through_all_processes(system: System, collector: Collector) -> None:
    done = run(
        sys.executable,
        "console.py",
        "demo",
        DATA_DIR=str(system.settings.data_path / "traced"),
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    created = re.search(r"created campaign ([0-9a-f-]+)", done.stdout)
    assert created
    trace = [span for span in collector.spans if span.trace == created[1].replace("-", "")]
    assert {(span.service, span.name) for span in trace} >= {
        ("salesapi", "run campaign"),
        ("rpc", "workspace_credit.WorkspaceCredit/ReserveCredit"),
        ("sales_worker", "send_campaign"),
        ("sales_worker", "submit batch"),
        ("carrier", "POST /messages"),
        ("salesapi", "commit reports"),
        ("salesapi", "send charges"),
        ("general_worker", "deduct_credit"),
    }
    ids = {span.span for span in trace}
    assert [span.name for span in trace if span.parent not in ids] == ["run campaign"]
    assert any(span.name == "POST /run" for span in collector.spans)


def test_without_an_endpoint_nothing_of_it_is_imported() -> None:
    code = "import sys, salesapi.salesapi.main; assert not any(m.startswith('opentelemetry') for m in sys.modules)"
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert not tracing.enabled()
    with tracing.span("nothing"), tracing.root("nothing", None):  # type: ignore[arg-type]
        assert tracing.traceparent() is None
