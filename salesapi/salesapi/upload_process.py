"""A process that stores uploads, apart from the one that answers callbacks: `UploadProcesses` starts it.

It reads one job after the other from a socket, each with the open file of its upload, and writes a result for each. It
ends at once when the other end of the socket is closed, or its process has been killed; what it has not committed is
rolled back.
"""

import asyncio
import os
import socket
import struct
import sys
from typing import NamedTuple

import msgspec

from bulksms.contacts.phone import PhoneNormaliser
from bulksms.quotas import Quotas
from common.database import Database
from common.event_loop import new_event_loop
from common.observability import logs
from common.settings import Settings, load
from salesapi.salesapi import upload_job
from salesapi.salesapi.upload_job import UploadJob

LENGTH = struct.Struct("!I")  # before each job and result, which are JSON
_NICE = 10  # below all that has to answer at once


class _Received(NamedTuple):
    job: UploadJob
    file: int  # its descriptor


def _receive(connection: socket.socket) -> _Received | None:
    """The next job; None when there will be no more."""
    head, files, _, _ = socket.recv_fds(connection, LENGTH.size, 1)
    if not head:
        return None
    head += _exactly(connection, LENGTH.size - len(head))
    return _Received(msgspec.json.decode(_exactly(connection, *LENGTH.unpack(head)), type=UploadJob), files[0])


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (piece := connection.recv(size - len(data))):
        data += piece
    return bytes(data)


async def _receive_all(connection: socket.socket, jobs: "asyncio.Queue[_Received]") -> None:
    """Queue every job, until the other end is closed: then nobody waits for a result."""
    while received := await asyncio.to_thread(_receive, connection):
        jobs.put_nowait(received)
    os._exit(0)


async def _serve(connection: socket.socket, settings: Settings) -> None:
    salesdb = Database("salesdb", settings.salesdb_dsn, connections=1)
    await salesdb.open()
    normaliser = PhoneNormaliser(settings.default_region)
    quotas = Quotas(settings.quota_drafts, settings.quota_open_contacts, settings.quota_contacts)
    jobs: asyncio.Queue[_Received] = asyncio.Queue()
    receiver = asyncio.create_task(_receive_all(connection, jobs))
    while not receiver.done():
        received = await jobs.get()
        with os.fdopen(received.file, "rb") as file:
            result = await upload_job.create(
                salesdb, file, received.job, normaliser=normaliser, price=settings.sms_price, quotas=quotas
            )
        body = msgspec.json.encode(result)
        await asyncio.to_thread(connection.sendall, LENGTH.pack(len(body)) + body)


def main() -> None:
    """Serve the socket whose descriptor is the argument."""
    settings = load()
    logs.configure(settings.log_level, "salesapi")
    os.nice(_NICE)
    with socket.socket(fileno=int(sys.argv[1])) as connection, asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(connection, settings))


if __name__ == "__main__":
    main()
