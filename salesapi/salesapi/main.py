"""Puts the salesapi process together: settings, connections, and the handlers that are given them."""

import asyncio

from starlette.applications import Starlette
from starlette.routing import Route

from bulksms.report_writer import ReportWriter
from common import logs, problems, web
from common.database import Database
from common.jobs import JobQueue
from common.settings import Settings
from rpc.client import RpcClient
from salesapi.salesapi.callback import Callback
from salesapi.salesapi.callback_lane import protocol_factory
from salesapi.salesapi.charges import gathering
from salesapi.salesapi.controls import Controls
from salesapi.salesapi.create import Create
from salesapi.salesapi.endpoints import Endpoints
from salesapi.salesapi.running import Runner


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C; reports that were taken are committed first."""
    logs.configure(settings.log_level, "salesapi")
    web.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    salesdb = Database("salesdb", settings.salesdb_dsn)
    jobs = JobQueue.connect(settings.redis_url)
    rpc = RpcClient(settings.rpc_address, settings.rpc_timeout)
    charges = gathering(jobs)
    writer = ReportWriter(
        salesdb, buffer=settings.callback_buffer, flush=settings.callback_flush, on_entries=charges.add
    )
    runner = Runner(salesdb, rpc, jobs, batch=settings.send_batch, lanes=settings.send_lanes, on_entries=charges.add)
    create = Create(
        salesdb,
        rpc,
        region=settings.default_region,
        price=settings.sms_price,
        max_bytes=settings.upload_max_bytes,
    )
    parts = {
        "salesdb": web.Part(salesdb.address, salesdb.check),
        "redis": web.Part(jobs.address, jobs.check),
        "rpc": web.Part(settings.rpc_address, rpc.check),
    }
    app = Starlette(
        routes=[
            Route("/create", create.endpoint, methods=["POST"]),
            *Controls(salesdb, runner).routes,
            *Endpoints(salesdb).routes,
            Route("/callback", Callback(writer).endpoint, methods=["POST"]),
            *web.health_routes(parts),
        ]
    )
    problems.install(app)
    await salesdb.open(wait=False)
    writer.start()
    tasks = [*web.watch(parts), asyncio.create_task(charges.run())]
    await web.serve(
        app,
        settings.salesapi_host,
        settings.salesapi_port,
        reuse_port=settings.reuse_port,
        http=protocol_factory(writer),
    )
    await writer.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(rpc.close(), jobs.close(), salesdb.close())
