"""The callback protocol takes HTTP/1.1 as clients may send it: in pieces, pipelined, malformed, mixed with others."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from common.auth.signatures import Secret
from tests.support.client import OLD_SECRET, Client, signed
from tests.support.raw_http import RawConnection, connect

REPORT = b'{"message_id":"no-id-of-ours","status":"sent","timestamp":"2026-01-01T00:00:00Z"}'
APPLIED = {"applied": 0, "stale": 0, "unknown": 1}


def post(body: bytes = REPORT, target: bytes = b"/callback", *headers: bytes, version: bytes = b"1.1") -> bytes:
    lines = [b"POST %s HTTP/%s" % (target, version), b"Host: x", b"Content-Length: %d" % len(body), *headers]
    if not any(header.startswith(b"X-Signature") for header in headers):
        lines.append(signature(body))
    return b"\r\n".join([*lines, b"", body])


def signature(body: bytes, **how: Any) -> bytes:
    [(name, value)] = signed(body, **how).items()
    return f"{name}: {value}".encode()


@pytest.fixture
async def connection(client: Client) -> AsyncIterator[RawConnection]:
    async with connect(client.salesapi) as made:
        yield made


async def test_pipelined_requests_are_answered_in_order(connection: RawConnection) -> None:
    connection.send(post() + post(b"[]") + post(b"[%s,%s]" % (REPORT, REPORT)))
    assert [(await connection.answer())[:1] for _ in range(2)] == [(200,), (400,)]
    assert (await connection.answer())[1] == {"applied": 0, "stale": 0, "unknown": 2}


async def test_more_requests_than_the_queue_holds_are_all_answered(connection: RawConnection) -> None:
    connection.send(post() * 500)
    assert [(await connection.answer())[0] for _ in range(500)] == [200] * 500


async def test_many_refused_requests_behind_a_waiting_one_are_answered(
    client: Client, connection: RawConnection
) -> None:
    for _ in range(2):
        async with connect(client.salesapi) as other:
            other.send(post() + post(b"[]") * 3_000)
            assert [(await other.answer())[0] for _ in range(200)] == [200] + [400] * 199
    connection.send(post())
    assert (await connection.answer())[:2] == (200, APPLIED)


async def test_a_request_in_single_bytes(connection: RawConnection) -> None:
    for byte in post():
        connection.send(bytes([byte]))
        await connection.writer.drain()
        await asyncio.sleep(0)
    assert (await connection.answer())[:2] == (200, APPLIED)


async def test_a_body_in_chunks(connection: RawConnection) -> None:
    head = b"POST /callback HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n%s\r\n\r\n" % signature(REPORT)
    connection.send(head + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (REPORT[:7], REPORT[7:])) + b"0\r\n\r\n")
    assert (await connection.answer())[:2] == (200, APPLIED)


async def test_a_query_or_an_absolute_url_is_a_callback_too(client: Client) -> None:
    for target in (b"/callback?from=carrier", b"http://salesapi/callback"):
        async with connect(client.salesapi) as connection:
            connection.send(post(target=target))
            assert (await connection.answer())[:2] == (200, APPLIED)


async def test_a_connection_can_switch_to_other_requests_and_back(connection: RawConnection) -> None:
    connection.send(post())
    assert (await connection.answer())[0] == 200
    connection.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await connection.answer())[:2] == (200, {"status": "up"})
    connection.send(post())
    assert (await connection.answer())[:2] == (200, APPLIED)


async def test_another_request_pipelined_with_a_callback_must_be_repeated(connection: RawConnection) -> None:
    connection.send(post() + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    status, _, headers = await connection.answer()
    assert (status, headers["connection"]) == (200, "close")
    assert await connection.closed()


@pytest.mark.parametrize("request_", [post(version=b"1.0"), post(REPORT, b"/callback", b"Connection: close")])
async def test_the_connection_closes_after_the_response_on_request(connection: RawConnection, request_: bytes) -> None:
    connection.send(request_)
    assert (await connection.answer())[2]["connection"] == "close"
    assert await connection.closed()


async def test_a_client_that_sends_eof_gets_its_responses(connection: RawConnection) -> None:
    connection.send(post() * 3)
    connection.writer.write_eof()
    assert [(await connection.answer())[0] for _ in range(3)] == [200] * 3
    assert await connection.closed()


async def test_expect_100_continue_is_answered(connection: RawConnection) -> None:
    head, _, body = post(REPORT, b"/callback", b"Expect: 100-continue").partition(b"\r\n\r\n")
    connection.send(head + b"\r\n\r\n")
    assert (await connection.answer())[0] == 100
    connection.send(body)
    assert (await connection.answer())[0] == 200


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST /callback HTTP/9.9\r\n\r\n", 400),
        (b"POST /callback HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /callback HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 400),
        (post(b"[" + b" " * 600_000 + b"]"), 413),
        (b"POST /callback HTTP/1.1\r\n" + b"X: y\r\n" * 200_000, 431),
    ],
)
async def test_an_invalid_request_is_refused_after_the_earlier_responses(
    connection: RawConnection, data: bytes, status: int
) -> None:
    connection.send(post() + data)
    assert (await connection.answer())[0] == 200
    found, body, headers = await connection.answer()
    assert (found, headers["content-type"], headers["connection"]) == (status, "application/problem+json", "close")
    assert body["status"] == status
    assert await connection.closed()


async def test_another_method_is_405(client: Client) -> None:
    answer = await client.http.get(f"{client.salesapi}/callback")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("target", [b"/callback", b"http://salesapi/callback"])
@pytest.mark.parametrize(
    ("header", "words"),
    [
        (lambda: b"X-Signature: ", "missing"),
        (lambda: b"X-Signature: t=now,v1=00", "does not match"),
        (lambda: b"X-Signature: v1=00", "does not match"),
        (lambda: signature(REPORT + b" "), "does not match"),
        (lambda: signature(REPORT, secret="of someone else"), "does not match"),
        (lambda: signature(REPORT, age=-400), "s old"),
        (lambda: signature(REPORT, age=400), "s old"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_callback_without_a_valid_signature_is_401(
    connection: RawConnection, target: bytes, header: Callable[[], bytes], words: str
) -> None:
    connection.send(post(REPORT, target, header()) + post())
    status, body, headers = await connection.answer()
    assert (status, headers["content-type"]) == (401, "application/problem+json")
    assert words in body["detail"]
    assert headers["www-authenticate"]
    if target == b"/callback":
        assert (await connection.answer())[0] == 200, "the connection goes on"


def test_a_signature_is_a_standard_hmac() -> None:
    for secret in (b"k", b"k" * 64, b"k" * 65):
        made = hmac.digest(secret, b"1700000000.{}", "sha256").hex()
        assert Secret(secret).sign(b"{}", 1_700_000_000.9) == f"t=1700000000,v1={made}".encode()


async def test_two_secrets_are_valid_during_rotation(connection: RawConnection) -> None:
    connection.send(post(REPORT, b"/callback", signature(REPORT, secret=OLD_SECRET)) + post())
    assert [(await connection.answer())[0] for _ in range(2)] == [200, 200]
