"""salesapi over HTTP: run, schedule, pause, resume and cancel a campaign, and retry what it failed to reach."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bulksms import lifecycle, retry
from bulksms.campaigns import Campaign, CampaignNotFoundError
from bulksms.idempotency import Key, KeyTakenError
from bulksms.lifecycle import WrongStateError
from bulksms.retry import NothingFailedError
from common.database import Database
from common.web.problems import Problem
from common.web.requests import json_response, read_json
from rpc.client import InsufficientCreditError, NotFoundError, RpcUnavailableError
from salesapi.salesapi import idempotency_key
from salesapi.salesapi.authorization import owned
from salesapi.salesapi.present import encode, present
from salesapi.salesapi.running import Runner

_LATEST = timedelta(days=366)

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Named(msgspec.Struct):
    """The body of `POST /pause`, `/resume` and `/cancel`."""

    bulksms_id: UUID


class Run(msgspec.Struct):
    """The body of `POST /run`; `scheduled_for` in ISO 8601 with its zone."""

    bulksms_id: UUID
    scheduled_for: Moment | None = None


def check_moment(moment: datetime) -> datetime:
    """A time at which a campaign can start. Raises Problem 422."""
    now = datetime.now(UTC)
    if not now < moment <= now + _LATEST:
        raise Problem(
            422,
            "Time not usable",
            f"scheduled_for: {moment.isoformat()} must be in the future and at most {_LATEST.days} days away; "
            "leave it out to run now",
        )
    return moment


class Controls:
    """The handlers, with what they need."""

    def __init__(self, salesdb: Database, runner: Runner, on_moved: Callable[[Sequence[UUID]], None]) -> None:
        self._salesdb = salesdb
        self._runner = runner
        self._on_moved = on_moved  # told the campaigns whose status may have changed

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/run", self.run, methods=["POST"]),
            Route("/pause", self.pause, methods=["POST"]),
            Route("/resume", self.resume, methods=["POST"]),
            Route("/cancel", self.cancel, methods=["POST"]),
            Route("/bulksms/{bulksms_id}/retry-failed", self.retry_failed, methods=["POST"]),
        ]

    async def run(self, request: Request) -> Response:
        """`POST /run`: start a campaign, now or at a time."""
        asked = await read_json(request, Run)
        async with _answering("can be run"):
            campaign = await owned(self._salesdb, request, asked.bulksms_id)
            key = idempotency_key.key_of(request)
            once = lifecycle.run_key(campaign, key, asked.scheduled_for) if key else None
            if once and (known := await idempotency_key.replay(self._salesdb, once, 202)):
                return known
            try:
                return self._moved(await self._run(asked, once), 202)
            except WrongStateError:  # it may be the same request's doing, which came at the same time
                if once and (known := await idempotency_key.replay(self._salesdb, once, 202)):
                    return known
                raise

    async def _run(self, asked: Run, once: Key | None) -> Campaign:
        if asked.scheduled_for is None:
            return await self._runner.run(asked.bulksms_id, once.key if once else None)
        moment = check_moment(asked.scheduled_for)
        return await lifecycle.schedule(self._salesdb, asked.bulksms_id, moment, once, encode)

    async def pause(self, request: Request) -> Response:
        """`POST /pause`: take nothing more of a campaign to the carrier."""
        asked = await read_json(request, Named)
        async with _answering("can be paused"):
            await owned(self._salesdb, request, asked.bulksms_id)
            return self._moved(await lifecycle.pause(self._salesdb, asked.bulksms_id))

    async def resume(self, request: Request) -> Response:
        """`POST /resume`: go on with a paused campaign."""
        asked = await read_json(request, Named)
        async with _answering("can be resumed"):
            await owned(self._salesdb, request, asked.bulksms_id)
            return self._moved(await self._runner.resume(asked.bulksms_id))

    async def cancel(self, request: Request) -> Response:
        """`POST /cancel`: end a campaign; what has not gone to the carrier never will."""
        asked = await read_json(request, Named)
        async with _answering("can be cancelled"):
            await owned(self._salesdb, request, asked.bulksms_id)
            return self._moved(await self._runner.cancel(asked.bulksms_id))

    async def retry_failed(self, request: Request) -> Response:
        """`POST /bulksms/{id}/retry-failed`: a new campaign of the contacts that one has failed to reach."""
        async with _answering("has ended, so that its failed contacts can be retried"):
            first = await owned(self._salesdb, request, request.path_params["bulksms_id"])
            key = idempotency_key.key_of(request)
            if key and (known := await idempotency_key.replay(self._salesdb, retry.retry_key(first, key), 201)):
                return known
            try:
                return idempotency_key.answer(await retry.retry_failed(self._salesdb, first.id, key, encode), 201)
            except KeyTakenError:
                assert key is not None
                return await idempotency_key.replayed(self._salesdb, retry.retry_key(first, key), 201)
            except NothingFailedError as error:
                raise Problem(409, "Nothing to retry", str(error)) from None

    def _moved(self, campaign: Campaign, status: int = 200) -> Response:
        """The campaign as it is now, told also to whoever watches it."""
        self._on_moved([campaign.id])
        return json_response(present(campaign), status)


@asynccontextmanager
async def _answering(what: str) -> AsyncIterator[None]:
    """The domain's errors as problems; `what`: which campaign it would have worked on."""
    try:
        yield
    except CampaignNotFoundError as error:
        raise Problem(404, "No such campaign", str(error)) from None
    except WrongStateError as error:
        raise Problem(
            409, "Not in a state for this", f"{error}: no campaign in this state {what}", status_now=error.status
        ) from None
    except InsufficientCreditError as error:
        raise Problem(
            402, "Too little credit", f"{error}; top up the workspace", needed=error.needed, available=error.available
        ) from None
    except NotFoundError as error:
        raise Problem(404, "No such workspace", str(error)) from None
    except RpcUnavailableError as error:
        raise Problem(
            503,
            "Not available now",
            f"{error}; the run is noted and starts when rpc answers, asking again is harmless",
            headers={"Retry-After": "1"},
        ) from None
