"""The simulator's storage in SQLite: accepted batches, messages per phone, and the progress of their reports.

All calls run in one separate thread. A commit survives a kill -9 of the process.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

_VERSION = 2

# A batch's `steps` has one byte per message: the number of acknowledged reports. Messages are stored in the order of
# their batch; `got` is 1 if the phone receives the message.
_SCHEMA = f"""
    CREATE TABLE batch (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, digest BLOB NOT NULL, answer BLOB NOT NULL,
        callback_url TEXT NOT NULL, odds BLOB NOT NULL, accepted_at REAL NOT NULL, steps BLOB NOT NULL,
        open INTEGER NOT NULL
    );
    CREATE INDEX batch_open ON batch (id) WHERE open;
    CREATE TABLE message (
        batch INTEGER, seq INTEGER, message_id TEXT NOT NULL, phone TEXT NOT NULL, got INTEGER NOT NULL,
        PRIMARY KEY (batch, seq)
    ) WITHOUT ROWID;
    CREATE TABLE total (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    PRAGMA user_version = {_VERSION};
"""


class StoredResponse(NamedTuple):
    """The response to the batch of a key, and a hash of the batch."""

    digest: bytes
    response: bytes


class NewBatch(NamedTuple):
    """A batch to be accepted; `network`: the NetworkModel of its messages (JSON), `accepted_at` in Unix seconds."""

    key: str
    digest: bytes
    response: bytes
    callback_url: str
    network: bytes
    accepted_at: float


class NewMessage(NamedTuple):
    """A message of a batch; `got` is 1 if its phone receives it."""

    message_id: str
    phone: str
    got: int


class OpenBatch(NamedTuple):
    """A batch with reports that are not acknowledged."""

    callback_url: str
    network: bytes
    accepted_at: float
    steps: bytes
    message_ids: list[str]


class Progress(NamedTuple):
    """The progress of a batch's reports."""

    steps: bytes
    open: bool
    batch: int


class Store:
    """The SQLite file at `path`."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._database = self._thread.submit(_open, path).result()

    async def response(self, key: str) -> StoredResponse | None:
        """The response stored for this key, if any."""
        rows = await self._run(
            lambda db: db.execute("SELECT digest, answer FROM batch WHERE key = ?", (key,)).fetchall()
        )
        return StoredResponse(*rows[0]) if rows else None

    async def accept(self, batch: NewBatch, messages: Sequence[NewMessage]) -> int | None:
        """Commit a batch and return its id; None if the key is already used."""

        def write(db: sqlite3.Connection) -> int | None:
            inserted = db.execute(
                "INSERT OR IGNORE INTO batch (key, digest, answer, callback_url, odds, accepted_at, steps, open) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*batch, bytes(len(messages)), bool(messages)),
            )
            if not inserted.rowcount:
                return None
            number = inserted.lastrowid
            db.executemany(
                f"INSERT INTO message (batch, seq, message_id, phone, got) VALUES ({number}, ?, ?, ?, ?)",
                [(seq, *message) for seq, message in enumerate(messages)],
            )
            return number

        return await self._run(write)

    async def open_batches(self, callback_urls: Collection[str]) -> list[int]:
        """The ids of the batches with open reports to these URLs, oldest first."""
        query = "SELECT id, callback_url FROM batch WHERE open ORDER BY id"
        return await self._run(lambda db: [number for number, url in db.execute(query) if url in callback_urls])

    async def load(self, batch: int) -> OpenBatch:
        """A batch with its messages."""

        def read(db: sqlite3.Connection) -> OpenBatch:
            url, network, accepted_at, steps = db.execute(
                "SELECT callback_url, odds, accepted_at, steps FROM batch WHERE id = ?", (batch,)
            ).fetchone()
            ids = db.execute("SELECT message_id FROM message WHERE batch = ? ORDER BY seq", (batch,))
            return OpenBatch(url, network, accepted_at, steps, [row[0] for row in ids])

        return await self._run(read)

    async def progress(self, steps: Sequence[Progress], totals: dict[str, int]) -> None:
        """Commit acknowledgements, and add to the totals."""

        def write(db: sqlite3.Connection) -> None:
            db.executemany("UPDATE batch SET steps = ?, open = ? WHERE id = ?", steps)
            db.executemany(
                "INSERT INTO total VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
                list(totals.items()),
            )

        await self._run(write)

    async def stats(self) -> dict[str, int]:
        """Counts of accepted batches, messages per phone, and reports by state."""

        def read(db: sqlite3.Connection) -> dict[str, int]:
            accepted, messages, phones = db.execute(
                "SELECT count(*), coalesce(sum(got), 0), count(DISTINCT CASE WHEN got THEN phone END) FROM message"
            ).fetchone()
            message_ids, most, repeated = db.execute(
                "SELECT count(*), coalesce(max(n), 0), coalesce(sum(n > 1), 0) FROM "
                "(SELECT sum(got) AS n FROM message GROUP BY message_id)"
            ).fetchone()
            batches, open_batches = db.execute("SELECT count(*), coalesce(sum(open), 0) FROM batch").fetchone()
            totals = {"acknowledged": 0, "retried": 0, "given_up": 0} | dict(db.execute("SELECT * FROM total"))
            return {
                "batches": batches,
                "accepted": accepted,
                "message_ids": message_ids,
                "messages": messages,
                "failed": accepted - messages,
                "phones": phones,
                "most_per_message": most,
                "repeated": repeated,
                "batches_with_reports_due": open_batches,
                **{f"reports_{name}": value for name, value in totals.items()},
            }

        return await self._run(read)

    async def phone(self, number: str) -> int:
        """Number of messages that a phone received."""
        query = "SELECT coalesce(sum(got), 0) FROM message WHERE phone = ?"
        return await self._run(lambda db: int(db.execute(query, (number,)).fetchone()[0]))

    async def close(self) -> None:
        """Finish pending writes, and end the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
        self._thread.shutdown()

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in the thread, in a transaction."""

        def run() -> T:
            with self._database as db:
                return work(db)

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)


def _open(path: Path) -> sqlite3.Connection:
    database: Any = sqlite3.connect(path)
    if database.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
        database.close()
        for old in path.parent.glob(f"{path.name}*"):  # another schema version: simulated data need not be kept
            old.unlink()
        database = sqlite3.connect(path)
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(_SCHEMA)
    database.execute("PRAGMA synchronous = NORMAL")
    return database  # type: ignore[no-any-return]
