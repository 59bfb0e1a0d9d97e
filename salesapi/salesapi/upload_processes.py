"""The processes that store uploads: CSV files of customers are read where no callback waits for it."""

import asyncio
import os
import socket
import sys
from asyncio.subprocess import Process
from contextlib import suppress
from typing import BinaryIO

import msgspec
import structlog

from common.observability.counters import count_failure
from common.settings import ROOT
from common.web.problems import unavailable
from salesapi.salesapi.upload_job import UploadJob, UploadResult
from salesapi.salesapi.upload_process import LENGTH

log = structlog.get_logger()


class UploadProcessError(Exception):
    """A process that stores uploads has ended."""


class _UploadProcess:
    """A running process, and our end of its socket."""

    def __init__(self, process: Process, connection: socket.socket) -> None:
        self._process = process
        self._connection = connection
        self.is_working = False

    @classmethod
    async def start(cls) -> "_UploadProcess":
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "salesapi.salesapi.upload_process",
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C must not reach it: an upload in progress is finished
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
            )
        return cls(process, ours)

    @property
    def has_ended(self) -> bool:
        return self._process.returncode is not None

    async def ended(self) -> int:
        """Wait for its end; the exit code."""
        return await self._process.wait()

    def kill(self) -> None:
        """End it at once; what it has not committed is rolled back."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def close(self) -> None:
        self.kill()
        await self._process.wait()
        self._connection.close()

    async def create(self, file: BinaryIO, job: UploadJob) -> UploadResult:
        """Send a job, and wait for its result. Raises UploadProcessError."""
        body = msgspec.json.encode(job)
        loop = asyncio.get_running_loop()
        try:
            socket.send_fds(self._connection, [LENGTH.pack(len(body))], [file.fileno()])
            await loop.sock_sendall(self._connection, body)
            size = LENGTH.unpack(await self._receive(LENGTH.size))[0]
            return msgspec.json.decode(await self._receive(size), type=UploadResult)
        except OSError as error:
            raise UploadProcessError(f"a process that stores uploads has ended: {error}") from None

    async def _receive(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            piece = await asyncio.get_running_loop().sock_recv(self._connection, size - len(received))
            if not piece:
                raise UploadProcessError("a process that stores uploads has ended")
            received += piece
        return bytes(received)


class UploadProcesses:
    """Gives each job to a free process; each supervised task that runs `run` keeps one process running."""

    def __init__(self) -> None:
        self._free: asyncio.Queue[_UploadProcess] = asyncio.Queue()

    async def run(self) -> None:
        """Keep a process running until cancelled. Raises UploadProcessError if it ends without a job."""
        while True:
            process = await _UploadProcess.start()
            try:
                self._free.put_nowait(process)
                code = await process.ended()
            finally:
                await process.close()
            reason = f"it ended with exit code {code}"
            if not process.is_working:
                raise UploadProcessError(reason)
            log.error("a process that stores uploads has ended during an upload", reason=reason)
            count_failure("task", "upload process")

    async def create(self, file: BinaryIO, job: UploadJob) -> UploadResult:
        """Create the campaign of a job in a free process. Raises Problem 503 if the process ends meanwhile."""
        process = await self._free.get()
        while process.has_ended:
            process = await self._free.get()
        process.is_working = True
        try:
            result = await process.create(file, job)
        except UploadProcessError:
            raise unavailable("the upload was interrupted") from None
        except BaseException:  # cancelled: nobody reads the result, nor may the next job
            process.kill()
            raise
        process.is_working = False
        self._free.put_nowait(process)
        return result
