"""The simulator's memory, in SQLite: what it accepted, what each phone got, and which reports it still owes.

Every call runs in one thread of its own. A commit survives a kill -9 of the process, as a carrier's memory does.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

# `due` (seconds of the Unix epoch) is when the report number `step` goes out; none is left when it is NULL.
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS batch (key TEXT PRIMARY KEY, digest BLOB NOT NULL, answer BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS message (
        id INTEGER PRIMARY KEY, message_id TEXT NOT NULL, phone TEXT NOT NULL, callback_url TEXT NOT NULL,
        got INTEGER NOT NULL, reports BLOB NOT NULL, step INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0, due REAL
    );
    CREATE INDEX IF NOT EXISTS message_due ON message (due) WHERE due IS NOT NULL;
    CREATE TABLE IF NOT EXISTS total (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""


class Due(NamedTuple):
    """A report that is to go out: number `step` of the message's `reports` (msgpack)."""

    id: int
    message_id: str
    callback_url: str
    reports: bytes
    step: int
    attempts: int


class Accepted(NamedTuple):
    """A message as it is stored: `got` is 1 if its phone gets it, `reports` are to come (msgpack)."""

    message_id: str
    phone: str
    callback_url: str
    got: int
    reports: bytes
    due: float


class Progress(NamedTuple):
    """Where a message's reports stand after one went out or failed to."""

    step: int
    attempts: int
    due: float | None
    id: int


class Store:
    """The SQLite file at `path`."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._database = self._thread.submit(_open, path).result()

    async def batch(self, key: str) -> tuple[bytes, bytes] | None:
        """The digest and the answer of the batch that came under this key."""
        rows = await self._do(
            lambda db: db.execute("SELECT digest, answer FROM batch WHERE key = ?", (key,)).fetchall()
        )
        return rows[0] if rows else None

    async def accept(self, key: str, digest: bytes, answer: bytes, messages: Sequence[Accepted]) -> bool:
        """Commit a batch; False if another came under this key first."""

        def write(db: sqlite3.Connection) -> bool:
            if not db.execute("INSERT OR IGNORE INTO batch VALUES (?, ?, ?)", (key, digest, answer)).rowcount:
                return False
            db.executemany(
                "INSERT INTO message (message_id, phone, callback_url, got, reports, step, due) "
                "VALUES (?, ?, ?, ?, ?, 0, ?)",
                messages,
            )
            return True

        return await self._do(write)

    async def due(self, now: float, limit: int) -> list[Due]:
        """The reports that should be out by now, the longest due first."""
        query = (
            "SELECT id, message_id, callback_url, reports, step, attempts FROM message "
            "WHERE due <= ? ORDER BY due LIMIT ?"
        )
        return await self._do(lambda db: [Due(*row) for row in db.execute(query, (now, limit))])

    async def progress(self, steps: Sequence[Progress], totals: dict[str, int]) -> None:
        """Commit what was acknowledged and what is to be tried again, and add to the totals."""

        def write(db: sqlite3.Connection) -> None:
            db.executemany("UPDATE message SET step = ?, attempts = ?, due = ? WHERE id = ?", steps)
            db.executemany(
                "INSERT INTO total VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
                list(totals.items()),
            )

        await self._do(write)

    async def stats(self) -> dict[str, int]:
        """What was accepted, what the phones got, and how the reports stand."""

        def read(db: sqlite3.Connection) -> dict[str, int]:
            one = db.execute(
                "SELECT count(*), count(DISTINCT message_id), coalesce(sum(got), 0), count(due) FROM message"
            ).fetchone()
            per_message = db.execute(
                "SELECT coalesce(max(n), 0), coalesce(sum(n > 1), 0) FROM "
                "(SELECT sum(got) AS n FROM message GROUP BY message_id)"
            ).fetchone()
            phones = db.execute("SELECT count(DISTINCT phone) FROM message WHERE got").fetchone()
            batches = db.execute("SELECT count(*) FROM batch").fetchone()
            totals = {"acknowledged": 0, "retried": 0, "given_up": 0} | dict(db.execute("SELECT * FROM total"))
            return {
                "batches": batches[0],
                "accepted": one[0],
                "message_ids": one[1],
                "messages": one[2],
                "failed": one[0] - one[2],
                "phones": phones[0],
                "most_per_message": per_message[0],
                "repeated": per_message[1],
                "messages_with_reports_due": one[3],
                **{f"reports_{name}": value for name, value in totals.items()},
            }

        return await self._do(read)

    async def phone(self, number: str) -> int:
        """How many messages a phone got."""
        query = "SELECT coalesce(sum(got), 0) FROM message WHERE phone = ?"
        return await self._do(lambda db: int(db.execute(query, (number,)).fetchone()[0]))

    async def close(self) -> None:
        """Write what is under way, and end the thread."""
        await self._do(lambda db: db.close())
        self._thread.shutdown()

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do it in the thread, in a transaction."""

        def run() -> T:
            with self._database as db:
                return work(db)

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)


def _open(path: Path) -> sqlite3.Connection:
    database: Any = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.executescript(_SCHEMA)
    return database  # type: ignore[no-any-return]
