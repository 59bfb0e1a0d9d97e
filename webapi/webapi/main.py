"""Puts the webapi process together: settings, connections, and the handlers that are given them."""

import asyncio

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from common import logs, problems, web
from common.broadcast import KrispBroadcast
from common.database import Database
from common.jobs import JobQueue
from common.settings import Settings
from rpc.client import RpcClient
from webapi.webapi.endpoints import Endpoints
from webapi.webapi.news import true_up
from webapi.webapi.websocket import CreditSocket, ReadyFrames


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    logs.configure(settings.log_level, "webapi")
    web.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    ds = Database("ds", settings.ds_dsn)
    jobs = JobQueue.connect(settings.redis_url)
    broadcast = KrispBroadcast.connect(settings.redis_url)
    rpc = RpcClient(settings.rpc_address, settings.rpc_timeout)
    parts = {
        "ds": web.Part(ds.address, ds.check),
        "redis": web.Part(jobs.address, jobs.check),
        "rpc": web.Part(settings.rpc_address, rpc.check),
    }
    app = Starlette(
        routes=[
            *Endpoints(ds, jobs, rpc).routes,
            *web.health_routes(parts),
            WebSocketRoute("/ws", CreditSocket(ds, broadcast)),
        ]
    )
    problems.install(app)
    await ds.open(wait=False)
    tasks = [
        *web.watch(parts),
        asyncio.create_task(broadcast.run()),
        asyncio.create_task(true_up(ds, broadcast)),
    ]
    await web.serve(app, settings.webapi_host, settings.webapi_port, reuse_port=settings.reuse_port, ws=ReadyFrames)
    for task in tasks:
        task.cancel()
    await asyncio.gather(rpc.close(), broadcast.close(), jobs.close(), ds.close())
