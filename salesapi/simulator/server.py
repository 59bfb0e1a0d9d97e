"""The simulated carrier over HTTP, for the demo and for load tests of other SMS systems.

`POST /messages` with `{callback_url, messages: [{message_id, to, text}]}` accepts a batch: 202 `{accepted, rejected:
[{message_id, reason}]}`. With the header `Idempotency-Key`, a repeated batch gets the same response and reaches
the phones once; without it each call is a new batch. `callback_url` must be `CALLBACK_URL` or one of
`CARRIER_CALLBACK_URLS`, and bodies `application/json`. Reports are posted to `callback_url` as
`{message_id, status, timestamp, error_code?}`, or in arrays; signed where `CALLBACK_SECRETS` is set. `GET /stats` and
`GET /stats/phones/{number}` count.

`POST /behaviour` changes its behaviour at run time; all members are optional: `failed undelivered duplicates swapped
latency`
(for messages accepted from then on), `array`, `mps`, `paused` (no reports while true), and
`trouble` for the next `times` batches, or a list, one per batch: `busy` (429), `error` (500), `refuse` (400),
`drop` (the connection is lost before the batch is accepted), `lose_answer` (accepted, then the connection is lost),
`half_answer`, `hang`.
"""

import asyncio
from collections.abc import Collection
from ipaddress import ip_address
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import Headers
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
from common.web.security_headers import SecurityHeaders
from salesapi.carrier.http import Batch
from salesapi.simulator.engine import KeyReusedError, Simulator
from salesapi.simulator.outcome import NetworkModel
from salesapi.simulator.rate import RateLimit, RateLimitError
from salesapi.simulator.store import Store

_MAX_MESSAGES = 10_000
_MAX_BYTES = 32 * 1024 * 1024
_HANG = 60.0  # seconds

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


Trouble = Literal["busy", "error", "refuse", "drop", "lose_answer", "half_answer", "hang"]


class BehaviourChange(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /behaviour`; omitted members stay unchanged."""

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
    """Ends a request without a response, as a lost connection does."""


class Endpoints:
    """The handlers of one simulator, which reports to `callback_urls` only: it signs what it sends."""

    def __init__(self, simulator: Simulator, store: Store, callback_urls: Collection[str]) -> None:
        self._callback_urls = frozenset(callback_urls)
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
        _require_json(request)
        batch = await read_json(request, Batch, _MAX_BYTES)
        if batch.callback_url not in self._callback_urls:
            raise Problem(
                403,
                "Callback URL not allowed",
                "callback_url: the simulator sends reports only to its CALLBACK_URL; add others to "
                "CARRIER_CALLBACK_URLS, separated by spaces, and restart it",
            )
        if not 1 <= len(batch.messages) <= _MAX_MESSAGES:
            raise Problem(400, "Batch not usable", f"messages: must have 1 to {_MAX_MESSAGES}")
        trouble = self._trouble.pop() if self._trouble else ""
        await self._apply_trouble(trouble)
        try:
            response = await self._simulator.accept(key, batch)
        except KeyReusedError as error:
            raise Problem(409, "Key in use", str(error)) from None
        except RateLimitError as error:
            raise _rate_limited(error.retry_after) from None
        if trouble == "lose_answer":
            raise _LostConnectionError
        if trouble == "half_answer":
            response = response[: len(response) // 2]
        return Response(response, 202, media_type="application/json")

    async def _apply_trouble(self, trouble: str) -> None:
        if trouble == "busy":
            raise _rate_limited(0.2)
        if trouble == "error":
            raise Problem(500, "Internal error", "requested by POST /behaviour")
        if trouble == "refuse":
            raise Problem(400, "Refused", "requested by POST /behaviour")
        if trouble == "drop":
            raise _LostConnectionError
        if trouble == "hang":
            await asyncio.sleep(_HANG)

    async def stats(self, request: Request) -> Response:
        return json_response(await self._store.stats())

    async def phone(self, request: Request) -> Response:
        return json_response({"messages": await self._store.phone(request.path_params["number"])})

    async def behaviour(self, request: Request) -> Response:
        _require_json(request)
        change = await read_json(request, BehaviourChange)
        simulator = self._simulator
        for name in ("failed", "undelivered", "duplicates", "swapped", "latency"):
            if (value := getattr(change, name)) is not None:
                setattr(simulator.network, name, value)
        if change.array is not None:
            simulator.array = change.array
        if change.mps is not None:
            simulator.rate = RateLimit(change.mps)
        if change.paused is not None:
            simulator.paused = change.paused
        if change.trouble is not None:
            troubles = change.trouble if isinstance(change.trouble, list) else [change.trouble]
            self._trouble = troubles[::-1] * change.times
        return json_response(
            {**msgspec.structs.asdict(simulator.network), "array": simulator.array, "mps": simulator.rate.mps}
        )


def _require_json(request: Request) -> None:
    """Raise Problem 415 unless the body is declared as JSON, which a foreign page cannot do without our consent."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "Media type not supported", "send the header Content-Type: application/json")


class _OwnPagesOnly:
    """ASGI middleware that refuses requests of foreign pages: with another Origin, or another name in Host.

    `host`: the name under which the simulator is called. An address in Host cannot be a rebound name.
    """

    def __init__(self, app: Any, host: str) -> None:
        self._app = app
        self._host = host

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and not self._is_own(Headers(scope=scope)):
            problem = Problem(
                403,
                "Origin not allowed",
                f"pages may not use the simulator; call it at {self._host}, which CARRIER_URL sets",
            )
            await problem.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_own(self, headers: Headers) -> bool:
        host, origin = headers.get("host", ""), headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return False
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in (self._host, "localhost", "") or bool(ip_address(name))
        except ValueError:
            return False


def _rate_limited(retry_after: float) -> Problem:
    return Problem(429, "Rate limit exceeded", "retry later", headers={"Retry-After": f"{retry_after:.2f}"})


def _with_lost_connections(app: Starlette) -> Any:
    """Turn _LostConnectionError into a connection closed in mid-response: length sent, body missing."""

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
    network = NetworkModel(
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
            network,
            array=settings.carrier_array,
            connections=settings.carrier_connections,
            mps=settings.carrier_mps,
            secret=next(iter(settings.callback_keys), None),
        )
    )
    callback_urls = (settings.callback_url, *settings.carrier_callback_urls.split())
    await simulator.load(callback_urls)
    runtime.task("due reports", simulator.run_schedule)
    runtime.task("acknowledgements", simulator.run_flush)
    routes = [
        *Endpoints(simulator, store, callback_urls).routes,
        *health_routes(runtime.dependencies),
        metrics.route(runtime.registry),
    ]
    app = Starlette(routes=routes)
    problems.install(app)
    app.add_exception_handler(_LostConnectionError, _raise)
    host, port = host_and_port(settings.carrier_url)
    async with runtime:
        guarded = SecurityHeaders(_OwnPagesOnly(tracing.around(_with_lost_connections(app)), host))
        counted = HttpMetrics(runtime.registry).around(guarded)
        await server.serve(counted, host, port, runtime.stopping)


async def _raise(request: Request, error: Exception) -> Response:
    raise error
