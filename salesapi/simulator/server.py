"""The simulated carrier over HTTP, for the demo and for whoever load-tests SMS code of their own.

`POST /messages` with `{callback_url, messages: [{message_id, to, text}]}` takes a batch: 202 `{accepted, rejected:
[{message_id, reason}]}`. With the header `Idempotency-Key`, the same batch sent again is answered the same and reaches
the phones once; without it each call is a batch of its own. Reports come to `callback_url` as
`{message_id, status, timestamp, error_code?}`, or in arrays; signed where `CALLBACK_SECRETS` is set. `GET /stats` and
`GET /stats/phones/{number}` count.

`POST /behaviour` changes it while it runs, each member on its own: `failed undelivered duplicates swapped latency`
(of messages accepted from then on, as their fates are theirs), `array`, `mps`, `paused` (no reports while true), and
`trouble` for the next `times` batches, or a list for one after another: `busy` (429), `error` (500), `refuse` (400),
`drop` (the connection is lost before the batch is taken), `lose_answer` (it is taken, then the connection is lost),
`half_answer`, `hang`.
"""

import asyncio
from typing import Annotated, Any, Literal
from uuid import uuid4

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from common.observability import metrics, tracing
from common.observability.metrics import HttpMetrics
from common.runtime import Runtime, run
from common.settings import Settings, host_and_port
from common.web import problems, server
from common.web.health import health_routes
from common.web.problems import Problem
from common.web.requests import json_response, read_json
from salesapi.carrier.http import Batch
from salesapi.simulator.engine import KeyReusedError, OverRateError, Rate, Simulator
from salesapi.simulator.fate import Odds
from salesapi.simulator.store import Store

_MOST_MESSAGES = 10_000
_MOST_BYTES = 32 * 1024 * 1024
_HANG = 60.0  # seconds

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


Trouble = Literal["busy", "error", "refuse", "drop", "lose_answer", "half_answer", "hang"]


class Behaviour(msgspec.Struct, forbid_unknown_fields=True):
    """What to change; what is left out stays."""

    failed: Share | None = None
    undelivered: Share | None = None
    duplicates: Share | None = None
    swapped: Share | None = None
    latency: Annotated[float, msgspec.Meta(ge=0)] | None = None
    array: Annotated[int, msgspec.Meta(ge=1, le=1_000)] | None = None
    mps: Annotated[int, msgspec.Meta(ge=0)] | None = None
    paused: bool | None = None
    trouble: Trouble | list[Trouble] | None = None
    times: Annotated[int, msgspec.Meta(ge=1)] = 1


class _LostConnectionError(Exception):
    """Ends a request without an answer, as a broken line does."""


class Endpoints:
    """The handlers over one simulator."""

    def __init__(self, simulator: Simulator, store: Store) -> None:
        self._simulator = simulator
        self._store = store
        self._trouble: list[Trouble] = []

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/messages", self.messages, methods=["POST"]),
            Route("/stats", self.stats),
            Route("/stats/phones/{number}", self.phone),
            Route("/behaviour", self.behaviour, methods=["POST"]),
        ]

    async def messages(self, request: Request) -> Response:
        key = request.headers.get("idempotency-key") or f"none-{uuid4()}"
        batch = await read_json(request, Batch, _MOST_BYTES)
        if not 1 <= len(batch.messages) <= _MOST_MESSAGES:
            raise Problem(400, "Batch not usable", f"messages: must have 1 to {_MOST_MESSAGES}")
        trouble = self._trouble.pop() if self._trouble else ""
        await self._before(trouble)
        try:
            answer = await self._simulator.accept(key, batch)
        except KeyReusedError as error:
            raise Problem(409, "Key in use", str(error)) from None
        except OverRateError as error:
            raise _busy(error.retry_after) from None
        if trouble == "lose_answer":
            raise _LostConnectionError
        if trouble == "half_answer":
            answer = answer[: len(answer) // 2]
        return Response(answer, 202, media_type="application/json")

    async def _before(self, trouble: str) -> None:
        if trouble == "busy":
            raise _busy(0.2)
        if trouble == "error":
            raise Problem(500, "Internal error", "as you asked")
        if trouble == "refuse":
            raise Problem(400, "Refused", "as you asked")
        if trouble == "drop":
            raise _LostConnectionError
        if trouble == "hang":
            await asyncio.sleep(_HANG)

    async def stats(self, request: Request) -> Response:
        return json_response(await self._store.stats())

    async def phone(self, request: Request) -> Response:
        return json_response({"messages": await self._store.phone(request.path_params["number"])})

    async def behaviour(self, request: Request) -> Response:
        asked = await read_json(request, Behaviour)
        simulator = self._simulator
        for name in ("failed", "undelivered", "duplicates", "swapped", "latency"):
            if (value := getattr(asked, name)) is not None:
                setattr(simulator.odds, name, value)
        if asked.array is not None:
            simulator.array = asked.array
        if asked.mps is not None:
            simulator.rate = Rate(asked.mps)
        if asked.paused is not None:
            simulator.paused = asked.paused
        if asked.trouble is not None:
            troubles = asked.trouble if isinstance(asked.trouble, list) else [asked.trouble]
            self._trouble = troubles[::-1] * asked.times
        return json_response(
            {**msgspec.structs.asdict(simulator.odds), "array": simulator.array, "mps": simulator.rate.mps}
        )


def _busy(retry_after: float) -> Problem:
    return Problem(429, "Over the rate", "try again later", headers={"Retry-After": f"{retry_after:.2f}"})


def _losing_connections(app: Starlette) -> Any:
    """Turns _LostConnectionError into a connection that is closed in mid-answer: length told, body missing."""

    async def route(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except _LostConnectionError:
            await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"100")]})

    return route


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    run("carrier", settings, _main)


async def _main(runtime: Runtime) -> None:
    settings = runtime.settings
    store = Store(settings.data_path / "carrier" / "carrier.sqlite")
    odds = Odds(
        failed=settings.carrier_failed,
        undelivered=settings.carrier_undelivered,
        duplicates=settings.carrier_duplicates,
        swapped=settings.carrier_out_of_order,
        latency=settings.carrier_latency,
        seed=settings.carrier_seed,
    )
    simulator = runtime.own(
        Simulator(
            store,
            odds,
            array=settings.carrier_array,
            connections=settings.carrier_connections,
            mps=settings.carrier_mps,
            secret=next(iter(settings.callback_keys), None),
        )
    )
    await simulator.load()
    runtime.task("due reports", simulator.make_due)
    runtime.task("acknowledgements", simulator.flush_often)
    routes = [
        *Endpoints(simulator, store).routes,
        *health_routes(runtime.dependencies),
        metrics.route(runtime.registry),
    ]
    app = Starlette(routes=routes)
    problems.install(app)
    app.add_exception_handler(_LostConnectionError, _raise)
    host, port = host_and_port(settings.carrier_url)
    async with runtime:
        counted = HttpMetrics(runtime.registry).around(tracing.around(_losing_connections(app)))
        await server.serve(counted, host, port, runtime.stopping)


async def _raise(request: Request, error: Exception) -> Response:
    raise error
