"""How long after a commit that charges its credit is seen on the WebSocket, with many clients during a campaign.

Counted from the start of the transaction in salesdb that takes a message's step and its charge, over the job, ds and
pub/sub, to the moment at which a client has read the credit that holds it; for every charge and every client.
"""

import asyncio
import time
from itertools import pairwise
from typing import Any
from uuid import UUID

from benchmarks.bench import Bench, Created, until

_HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

# By version of the workspace's credit: the references of the transaction that made it. Each writes the ledger once; two
# may have begun in the same microsecond, so a transaction is known by its id.
_VERSIONS = """
    SELECT array_agg(reference) AS references FROM ledger WHERE workspace_id = $1
    GROUP BY xmin::text ORDER BY min(created_at)
"""
_CHARGES = "SELECT reference, created_at FROM outbox WHERE bulksms_id = $1 AND kind = 'charge'"


class Watcher(asyncio.Protocol):
    """A WebSocket client (RFC 6455) that only notes when it read which version: a thousand of them must cost little."""

    def __init__(self, workspace: UUID) -> None:
        self._ask = f'{{"workspace_id":"{workspace}"}}'.encode()
        self._data = b""
        self._open = False
        self.seen: list[tuple[int, float]] = []  # version, time.time() when it was read
        self.lost = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(_HANDSHAKE)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        now = time.time()
        self._data += data
        if not self._open:
            head, end, self._data = self._data.partition(b"\r\n\r\n")
            if not end:
                self._data = head
                return
            self._open = True
            self._send(0x81, self._ask)
        while frame := self._frame():
            opcode, payload = frame
            if opcode == 0x89:  # ping
                self._send(0x8A, payload)
            elif opcode == 0x81:
                self.seen.append((int(payload.rpartition(b'"version":')[2].rstrip(b"}")), now))

    def _frame(self) -> tuple[int, bytes] | None:
        if len(self._data) < 4:
            return None
        length, start = self._data[1], 2
        if length == 126:
            length, start = int.from_bytes(self._data[2:4]), 4
        if len(self._data) < start + length:
            return None
        frame = self._data[0], self._data[start : start + length]
        self._data = self._data[start + length :]
        return frame

    def _send(self, opcode: int, payload: bytes) -> None:
        self._transport.write(bytes((opcode, 0x80 | len(payload))) + bytes(4) + payload)  # masked with zeros


async def measure(bench: Bench, clients: int, messages: int) -> dict[str, float]:
    """p50 and p99 in milliseconds, with `clients` watching the workspace of a campaign of `messages`."""
    created = await bench.create(messages)
    host, _, port = bench.webapi.partition(":")
    loop = asyncio.get_running_loop()
    watchers = []
    for _ in range(clients):
        _, watcher = await loop.create_connection(lambda: Watcher(created.workspace), host, int(port))
        watchers.append(watcher)

    async def told(version: int) -> bool:
        return all(watcher.seen and watcher.seen[-1][0] >= version for watcher in watchers)

    await until(lambda: told(1))
    await bench.run(created)
    made = await _made(bench, created)
    last = max(version for version, _ in made)
    await until(lambda: told(last))  # I7: each ends on the true credit
    for watcher in watchers:
        watcher.close()
    latencies = sorted(latency for watcher in watchers for latency in _latencies(watcher.seen, made))
    return {
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
        "messages_read": sum(len(watcher.seen) for watcher in watchers) / clients,
    }


async def _made(bench: Bench, created: Created) -> list[tuple[int, float]]:
    """Each charge: the version of the credit that was the first to hold it, and the time of its commit."""
    async with bench.ds.connection() as ds:
        rows = await ds.fetch(_VERSIONS, created.workspace)
        newest = await ds.fetchval("SELECT version FROM workspace WHERE id = $1", created.workspace)
    if newest != len(rows) + 1:  # the first version has no entry
        raise RuntimeError("the ledger does not tell which version holds which charge")
    versions = {reference: version for version, row in enumerate(rows, 2) for reference in row["references"]}
    async with bench.salesdb.connection() as salesdb:
        charges = await salesdb.fetch(_CHARGES, UUID(created.bulksms_id))
    return sorted((versions[str(charge["reference"])], charge["created_at"].timestamp()) for charge in charges)


def _latencies(seen: list[tuple[int, float]], made: list[tuple[int, float]]) -> list[float]:
    """For each charge: from its commit to the first message that holds it."""
    assert all(earlier[0] < later[0] for earlier, later in pairwise(seen)), "versions must grow"
    found, at = [], 0
    for version, committed in made:
        while seen[at][0] < version:
            at += 1
        found.append(seen[at][1] - committed)
    return found
