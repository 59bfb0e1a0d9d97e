"""The simulator's memory, in SQLite: the batches it accepted, what each phone got, and how far their reports went.

Every call runs in one thread of its own. A commit survives a kill -9 of the process, as a carrier's memory does.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

_VERSION = 2

# A batch's `steps` has one byte for each of its messages: how many of the reports were acknowledged. Messages lie in
# their batch's order; `got` is 1 if the phone gets it.
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


class Answered(NamedTuple):
    """What the batch of a key was, and was answered."""

    digest: bytes
    answer: bytes


class NewBatch(NamedTuple):
    """A batch to be accepted; `odds` (JSON) hold for its messages, `accepted_at` is in seconds of the Unix epoch."""

    key: str
    digest: bytes
    answer: bytes
    callback_url: str
    odds: bytes
    accepted_at: float


class NewMessage(NamedTuple):
    """A message of it; `got` is 1 if its phone gets it."""

    message_id: str
    phone: str
    got: int


class OpenBatch(NamedTuple):
    """A batch whose reports are not all acknowledged."""

    callback_url: str
    odds: bytes
    accepted_at: float
    steps: bytes
    message_ids: list[str]


class Progress(NamedTuple):
    """How far a batch's reports went."""

    steps: bytes
    open: bool
    batch: int


class Store:
    """The SQLite file at `path`."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._database = self._thread.submit(_open, path).result()

    async def answered(self, key: str) -> Answered | None:
        """What came under this key."""
        rows = await self._do(
            lambda db: db.execute("SELECT digest, answer FROM batch WHERE key = ?", (key,)).fetchall()
        )
        return Answered(*rows[0]) if rows else None

    async def accept(self, batch: NewBatch, messages: Sequence[NewMessage]) -> int | None:
        """Commit a batch and return its id; None if another came under its key first."""

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

        return await self._do(write)

    async def open_batches(self) -> list[int]:
        """The ids of the batches that are not done, oldest first."""
        return await self._do(lambda db: [row[0] for row in db.execute("SELECT id FROM batch WHERE open ORDER BY id")])

    async def load(self, batch: int) -> OpenBatch:
        """A batch with its messages."""

        def read(db: sqlite3.Connection) -> OpenBatch:
            url, odds, accepted_at, steps = db.execute(
                "SELECT callback_url, odds, accepted_at, steps FROM batch WHERE id = ?", (batch,)
            ).fetchone()
            ids = db.execute("SELECT message_id FROM message WHERE batch = ? ORDER BY seq", (batch,))
            return OpenBatch(url, odds, accepted_at, steps, [one[0] for one in ids])

        return await self._do(read)

    async def progress(self, steps: Sequence[Progress], totals: dict[str, int]) -> None:
        """Commit what was acknowledged, and add to the totals."""

        def write(db: sqlite3.Connection) -> None:
            db.executemany("UPDATE batch SET steps = ?, open = ? WHERE id = ?", steps)
            db.executemany(
                "INSERT INTO total VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
                list(totals.items()),
            )

        await self._do(write)

    async def stats(self) -> dict[str, int]:
        """What was accepted, what the phones got, and how the reports stand."""

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

        return await self._do(read)

    async def phone(self, number: str) -> int:
        """How many messages a phone got."""
        query = "SELECT coalesce(sum(got), 0) FROM message WHERE phone = ?"
        return await self._do(lambda db: int(db.execute(query, (number,)).fetchone()[0]))

    async def close(self) -> None:
        """Write what is under way, and end the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
        self._thread.shutdown()

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do it in the thread, in a transaction."""

        def run() -> T:
            with self._database as db:
                return work(db)

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)


def _open(path: Path) -> sqlite3.Connection:
    database: Any = sqlite3.connect(path)
    if database.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
        database.close()
        for old in path.parent.glob(f"{path.name}*"):  # of another version: a simulator may forget
            old.unlink()
        database = sqlite3.connect(path)
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(_SCHEMA)
    database.execute("PRAGMA synchronous = NORMAL")
    return database  # type: ignore[no-any-return]
