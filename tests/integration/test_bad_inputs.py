"""Bad inputs, each answered for what it is, with memory flat; docs/bad-inputs.md is made of what they are answered."""

import asyncio
import gzip
import io
import os
import zipfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import psutil

from common.settings import ROOT
from local.launcher import System
from tests.support.client import Client, signed
from tests.support.multipart import HEADER, ROW, field, form
from tests.support.raw_http import Answer, send

_DOCS = ROOT / "docs" / "bad-inputs.md"
_MEGABYTE = 1024 * 1024
_MARGIN = 64 * _MEGABYTE  # that a service may grow by: its buffers, and what Python keeps of them
_UPLOAD = b"POST /create HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=B"


class Bad(NamedTuple):
    """An input: where it goes, what it is, how it is sent, and the status that it is to be answered."""

    where: str
    what: str
    status: int
    head: bytes
    body: Callable[[], bytes | Iterable[bytes]]


def create(what: str, status: int, body: Callable[[], bytes | Iterable[bytes]], head: bytes = _UPLOAD) -> Bad:
    return Bad("POST /create", what, status, head, body)


def upload(what: str, file: Callable[[], Iterable[bytes]], status: int = 422, **fields: bytes) -> Bad:
    return create(what, status, lambda: form(file(), **fields))


def json(where: str, what: str, status: int, body: bytes, more: bytes = b"") -> Bad:
    target = where.replace("{id}", "00000000-0000-7000-8000-000000000001").encode()
    return Bad(where, what, status, target + b" HTTP/1.1" + more, lambda: body)


def zipped() -> bytes:
    """10 MB of zeros, as a ZIP of 10 kB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("contacts.csv", bytes(10 * _MEGABYTE))
    return file.getvalue()


def repeated(piece: bytes, size: int) -> Iterator[bytes]:
    """About `size` bytes of the same, made as they are sent."""
    block = piece * (256 * 1024 // len(piece))
    for _ in range(0, size, len(block)):
        yield block


def after_header(piece: bytes, size: int) -> Callable[[], Iterator[bytes]]:
    def pieces() -> Iterator[bytes]:
        yield HEADER
        yield from repeated(piece, size)

    return pieces


DEEP = b'{"x":' + b"[" * 60_000
REPORT = b'{"message_id":"%s","status":"sent","timestamp":"2026-01-01T00:00:00Z"}'

UPLOADS = [
    upload("a ZIP bomb named .csv", lambda: [zipped()]),
    upload("a gzip bomb named .csv", lambda: [gzip.compress(bytes(10 * _MEGABYTE))]),
    upload("an old Excel workbook named .csv", lambda: [b"\xd0\xcf\x11\xe0" + bytes(5_000)]),
    upload("a binary file", lambda: [bytes(5_000)]),
    create("Content-Encoding: gzip", 415, lambda: b"", _UPLOAD + b"\r\nContent-Encoding: gzip"),
    create("1 GB, as its Content-Length says", 413, lambda: b"", _UPLOAD + b"\r\nContent-Length: 1073741824"),
    upload("a line of 1 GB, in chunks", after_header(b"x" * 64, 1024 * _MEGABYTE), 413),
    upload("a line of 10 MB", after_header(b"x" * 64, 10 * _MEGABYTE)),
    upload("a million columns in the header", lambda: repeated(b"c,", 2 * _MEGABYTE)),
    upload("300 columns", lambda: [b",".join(b"c%d" % n for n in range(300)), b"\n"]),
    upload("a million columns in a row", after_header(b"c,", 2 * _MEGABYTE)),
    upload("one row of 30 MB: quoted values of line breaks", after_header(b'"a\n",', 30 * _MEGABYTE)),
    upload("a quote that is never closed", lambda: [HEADER, b'"Bo,0401234567\n', ROW]),
    upload("NUL in a number", lambda: [HEADER, b"Bo,04012\x0034567\n"]),
    upload("NUL in a contact's name", lambda: [HEADER, b"B\x00o,0401234567\n"]),
    upload("a contact's name of 300 characters", lambda: [HEADER, b"x" * 300 + ROW]),
    upload("NUL in the header", lambda: [b"Contact\x00 Name,Phone Number\n", ROW]),
    upload("NUL in the campaign's name", lambda: [HEADER, ROW], name=b"a\x00b"),
    upload("NUL in the message", lambda: [HEADER, ROW], message=b"a\x00b"),
    upload("NUL in the workspace's id", lambda: [HEADER, ROW], workspace_id=b"a\x00b"),
    upload("a message of 14 segments", lambda: [HEADER, ROW], message=b"x" * 2_000),
    upload("a field that is no UTF-8", lambda: [HEADER, ROW], 400, message=b"caf\xe9"),
    upload("half a surrogate pair in a field", lambda: [HEADER, ROW], 400, message=b"\xed\xa0\x80"),
    upload("a field of 1 MB", lambda: [HEADER, ROW], 400, name=b"x" * _MEGABYTE),
    create("a file name of 1 MB", 400, lambda: field("file", b"x", b'; filename="%s"' % (b"x" * _MEGABYTE))),
    create("a field's name of 1 MB", 400, lambda: field("x" * _MEGABYTE, b"x")),
    create("a part with 100 headers", 400, lambda: b"--B\r\n" + b"X: y\r\n" * 100),
    create("1,000 fields", 400, lambda: b"".join(field(f"f{n}", b"x") for n in range(1_000)) + b"--B--\r\n"),
    create("a body that never ends", 413, lambda: form(repeated(ROW, 1024 * _MEGABYTE))),
    create("a body that is cut off", 400, lambda: form(end=b"")),
    create("no boundary", 400, lambda: b"", b"POST /create HTTP/1.1\r\nContent-Type: multipart/form-data"),
    create("charset=utf-7, which can bring half a surrogate pair", 415, lambda: b"", _UPLOAD + b"; charset=utf-7"),
    create("a key of 300 characters", 400, form, _UPLOAD + b"\r\nIdempotency-Key: " + b"k" * 300),
    create("JSON", 415, lambda: b"{}", b"POST /create HTTP/1.1\r\nContent-Type: application/json"),
]  # fmt: skip

BODIES = [
    json("POST /run", "JSON nested 60,000 deep", 400, DEEP),
    json("POST /run", "invalid UTF-8", 400, b'{"bulksms_id":"\xff"}'),
    json("POST /run", "half a surrogate pair", 400, b'{"bulksms_id":"\\ud800"}'),
    json("POST /run", "1e999 for an id", 400, b'{"bulksms_id":1e999}'),
    json("POST /run", "NaN", 400, b'{"bulksms_id":NaN}'),
    json("POST /run", "a number of 50,000 digits, read over", 400, b'{"x":%s}' % (b"9" * 50_000)),
    json("POST /run", "an array", 400, b"[]"),
    json("POST /run", "nothing", 400, b""),
    json("POST /run", "1 MB", 413, b" " * _MEGABYTE),
    json("POST /run", "XML", 415, b"<run/>", b"\r\nContent-Type: application/xml"),
    json("POST /run", "Content-Encoding: gzip", 415, gzip.compress(b"{}"), b"\r\nContent-Encoding: gzip"),
    json("POST /callback", "JSON nested 60,000 deep", 400, DEEP),
    json("POST /callback", "invalid UTF-8", 400, REPORT % b"\xff"),
    json("POST /callback", "half a surrogate pair", 400, REPORT % b"\\ud800"),
    json("POST /callback", "a message id of 10,000 characters", 400, REPORT % (b"x" * 10_000)),
    json("POST /callback", "1,001 reports", 400, b"[" + b",".join([REPORT % b"x"] * 1_001) + b"]"),
    json("POST /callback", "1 MB", 413, b" " * _MEGABYTE),
    json("POST /callback", "gzip", 400, gzip.compress(REPORT), b"\r\nContent-Encoding: gzip"),
    json("POST /callback", "1 MB of headers", 431, b"", b"\r\nX: y" * 200_000),
    json("GET /bulksms", "a header of 1 MB", 431, b"", b"\r\nX: " + b"y" * _MEGABYTE),
    json("GET /bulksms", "200 headers", 431, b"", b"\r\nX: y" * 200),
    json("GET /bulksms?limit=1000000000", "a page of a billion", 400, b""),
    json("GET /bulksms?workspace_id=mine", "no UUID", 400, b""),
    json("GET /bulksms?cursor=" + "x" * 10_000, "a URL of 10,000 characters", 431, b""),
    json("GET /bulksms?cursor=Zm9v", "a cursor of one's own", 400, b""),
    json("BREW /bulksms", "a method that is none", 400, b""),
    json("DELETE /bulksms", "a method that is not answered", 405, b""),
]

WEBAPI = [
    json("POST /workspaces/{id}/topup", "JSON nested 60,000 deep", 400, DEEP),
    json("POST /workspaces/{id}/topup", "1e999 for an amount", 400, b'{"amount":1e999}'),
    json("POST /workspaces/{id}/topup", '"1e999" for an amount', 422, b'{"amount":"1e999"}'),
    json("POST /workspaces/{id}/topup", '"NaN" for an amount', 422, b'{"amount":"NaN"}'),
    json("POST /workspaces/{id}/topup", "an amount of 50,000 digits", 400, b'{"amount":"%s"}' % (b"9" * 50_000)),
    json("POST /workspaces/{id}/topup", "a negative amount", 422, b'{"amount":"-1"}'),
    json("POST /workspaces/{id}/topup", "half a tenth", 422, b'{"amount":"0.05"}'),
    json("POST /workspaces/{id}/topup", "NUL in the reference", 400, b'{"amount":"1","reference":"\\u0000"}'),
    json("POST /workspaces/{id}/topup", "a member that is not known", 400, b'{"amount":"1","amuont":"1"}'),
    json("GET /workspaces/{id}", "a header of 1 MB", 431, b"", b"\r\nX: " + b"y" * _MEGABYTE),
    json("GET /workspaces/mine", "no UUID", 404, b""),
    json("GET /workspaces/%00", "NUL in the path", 404, b""),
]  # fmt: skip


@asynccontextmanager
async def flat_memory(system: System, service: str) -> AsyncIterator[None]:
    """The service's memory grows by no more than the margin meanwhile, not for a moment."""
    process = psutil.Process(system.processes[service].pid)
    before = most = process.memory_info().rss
    ended = asyncio.Event()

    async def watch() -> None:
        nonlocal most
        while not ended.is_set():
            most = max(most, process.memory_info().rss)
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    yield
    ended.set()
    await watching
    assert most - before < _MARGIN, f"{service} grew by {(most - before) // _MEGABYTE} MB"


async def test_every_bad_input_is_answered_for_what_it_is_with_memory_flat(system: System, client: Client) -> None:
    found: list[tuple[Bad, Answer]] = []
    async with flat_memory(system, "salesapi"), flat_memory(system, "webapi"):
        for url, inputs in ((client.salesapi, UPLOADS + BODIES), (client.webapi, WEBAPI)):
            for bad in inputs:
                body = bad.body()
                head = bad.head + _signature(body) if bad.where == "POST /callback" else bad.head
                found.append((bad, await send(url, head, body)))
    wrong = [f"{bad.where}, {bad.what}: {answer}" for bad, answer in found if answer.status != bad.status]
    assert not wrong, "\n".join(wrong)
    for bad, answer in found:
        assert answer.headers["content-type"] == "application/problem+json", bad.what
        assert answer.body["status"] == bad.status
        assert answer.body["detail"]
    for service in (client.salesapi, client.webapi):
        assert (await client.http.get(f"{service}/health")).status_code == 200
    if os.environ.get("WRITE_DOCS"):
        _DOCS.write_text(table(found))
    assert _DOCS.read_text() == table(found), "make bad-inputs writes it anew"


def _signature(body: bytes | Iterable[bytes]) -> bytes:
    assert isinstance(body, bytes)
    return b"".join(f"\r\n{name}: {value}".encode() for name, value in signed(body).items())


def table(found: list[tuple[Bad, Answer]]) -> str:
    """docs/bad-inputs.md."""
    rows = [
        f"| {_cell(bad.where[:40])} | {_cell(bad.what)} | {answer.status} {_cell(answer.body['title'])}: "
        f"{_cell(answer.body['detail'])} |"
        for bad, answer in found
    ]
    return "\n".join([_INTRODUCTION, "| where | what is sent | what is answered |", "|---|---|---|", *rows, ""])


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("{", "\\{").replace("<", "&lt;").replace("\n", " ")


_INTRODUCTION = """# Bad inputs

What is sent, and what is answered: always problem details (RFC 9457) that say what is wrong, where, and how to mend it,
with the memory of the services flat. `tests/integration/test_bad_inputs.py` sends all of these, with
`UPLOAD_MAX_BYTES` at 32 MB; `make bad-inputs` writes this page.
"""
