"""Latency from the commit of a charge to its credit update on the WebSocket, with many clients during a campaign.

Measured from the start of the transaction in salesdb that records the charge, over the job, ds and pub/sub, to the
moment when a client has read the credit that includes it; for every charge and every client.
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

# For each version of the workspace's credit, the references of its transaction, which writes the ledger once. It is
# identified by its id, since two transactions may start in the same microsecond.
_VERSIONS = """
    SELECT array_agg(reference) AS references FROM ledger WHERE workspace_id = $1
    GROUP BY xmin::text ORDER BY min(created_at)
"""
_CHARGES = "SELECT reference, created_at FROM outbox WHERE bulksms_id = $1 AND kind = 'charge'"


class Watcher(asyncio.Protocol):
    """A minimal WebSocket client (RFC 6455) that records when it read each version; a thousand must cost little."""

    def __init__(self, workspace: UUID) -> None:
        self._request = f'{{"workspace_id":"{workspace}"}}'.encode()
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
            self._send(0x81, self._request)
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
    """Measure p50 and p99 in milliseconds, with `clients` watching the workspace of a campaign of `messages`."""
    created = await bench.create(messages)
    host, _, port = bench.webapi.partition(":")
    loop = asyncio.get_running_loop()
    watchers = []
    for _ in range(clients):
        _, watcher = await loop.create_connection(lambda: Watcher(created.workspace), host, int(port))
        watchers.append(watcher)

    async def all_have_read(version: int) -> bool:
        return all(watcher.seen and watcher.seen[-1][0] >= version for watcher in watchers)

    await until(lambda: all_have_read(1))
    await bench.run(created)
    charges = await _charges(bench, created)
    last = max(version for version, _ in charges)
    await until(lambda: all_have_read(last))  # I7: each client ends on the true credit
    for watcher in watchers:
        watcher.close()
    latencies = sorted(latency for watcher in watchers for latency in _latencies(watcher.seen, charges))
    return {
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
        "messages_read": sum(len(watcher.seen) for watcher in watchers) / clients,
    }


async def _charges(bench: Bench, created: Created) -> list[tuple[int, float]]:
    """For each charge: the first version of the credit that includes it, and the time of its commit."""
    async with bench.ds.connection() as ds:
        rows = await ds.fetch(_VERSIONS, created.workspace)
        newest = await ds.fetchval("SELECT version FROM workspace WHERE id = $1", created.workspace)
    if newest != len(rows) + 1:  # the first version has no entry
        raise RuntimeError("the ledger does not match the versions of the credit")
    versions = {reference: version for version, row in enumerate(rows, 2) for reference in row["references"]}
    async with bench.salesdb.connection() as salesdb:
        charges = await salesdb.fetch(_CHARGES, UUID(created.bulksms_id))
    return sorted((versions[str(charge["reference"])], charge["created_at"].timestamp()) for charge in charges)


def _latencies(seen: list[tuple[int, float]], charges: list[tuple[int, float]]) -> list[float]:
    """For each charge: seconds from its commit to the first message that includes it."""
    assert all(earlier[0] < later[0] for earlier, later in pairwise(seen)), "versions must grow"
    latencies, index = [], 0
    for version, committed_at in charges:
        while seen[index][0] < version:
            index += 1
        latencies.append(seen[index][1] - committed_at)
    return latencies
