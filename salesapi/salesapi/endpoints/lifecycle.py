"""Endpoints that run, schedule, pause, resume and cancel a campaign, and retry the contacts it failed to reach."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from bulksms import idempotency, lifecycle, retry_failed
from bulksms.campaigns import Campaign, CampaignNotFoundError
from bulksms.idempotency import Key, KeyInUseError
from bulksms.lifecycle import WrongStateError
from bulksms.retry_failed import NothingFailedError
from common.database import Database
from common.web.problems import Problem
from common.web.requests import json_response, read_json
from rpc.client import InsufficientCreditError, NotFoundError, RpcUnavailableError
from salesapi.salesapi import idempotency_key
from salesapi.salesapi.authorization import visible_campaign
from salesapi.salesapi.campaign_runner import CampaignRunner
from salesapi.salesapi.schemas import CampaignReference, CampaignView, RunRequest

_LATEST = timedelta(days=366)


def check_start_time(moment: datetime) -> datetime:
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


class LifecycleEndpoints:
    """The handlers, with what they need."""

    def __init__(self, salesdb: Database, runner: CampaignRunner, on_changed: Callable[[Sequence[UUID]], None]) -> None:
        self._salesdb = salesdb
        self._runner = runner
        self._on_changed = on_changed  # told the campaigns whose status may have changed

    async def run(self, request: Request) -> Response:
        """`POST /run`: start a campaign, now or at a time."""
        asked = await read_json(request, RunRequest)
        async with _domain_errors("can be run"):
            campaign = await visible_campaign(self._salesdb, request, asked.bulksms_id)
            key = idempotency_key.key_of(request)
            once = lifecycle.run_key(campaign, key, asked.scheduled_for) if key else None
            if once and (known := await idempotency_key.replay(self._salesdb, once, 202)):
                return known
            try:
                return self._changed(await self._run(asked, once), 202)
            except WrongStateError:  # it may be the same request's doing, which came at the same time
                if once and (known := await idempotency_key.replay(self._salesdb, once, 202)):
                    return known
                raise

    async def _run(self, asked: RunRequest, once: Key | None) -> Campaign:
        if asked.scheduled_for is None:
            return await self._runner.run(asked.bulksms_id, once.key if once else None)
        return await self._runner.schedule(asked.bulksms_id, check_start_time(asked.scheduled_for), once)

    async def pause(self, request: Request) -> Response:
        """`POST /pause`: take nothing more of a campaign to the carrier."""
        asked = await read_json(request, CampaignReference)
        async with _domain_errors("can be paused"):
            await visible_campaign(self._salesdb, request, asked.bulksms_id)
            return self._changed(await lifecycle.pause(self._salesdb, asked.bulksms_id))

    async def resume(self, request: Request) -> Response:
        """`POST /resume`: go on with a paused campaign."""
        asked = await read_json(request, CampaignReference)
        async with _domain_errors("can be resumed"):
            await visible_campaign(self._salesdb, request, asked.bulksms_id)
            return self._changed(await self._runner.resume(asked.bulksms_id))

    async def cancel(self, request: Request) -> Response:
        """`POST /cancel`: end a campaign; what has not gone to the carrier never will."""
        asked = await read_json(request, CampaignReference)
        async with _domain_errors("can be cancelled"):
            await visible_campaign(self._salesdb, request, asked.bulksms_id)
            return self._changed(await self._runner.cancel(asked.bulksms_id))

    async def retry_failed(self, request: Request) -> Response:
        """`POST /bulksms/{id}/retry-failed`: a new campaign of the contacts that one has failed to reach."""
        async with _domain_errors("has ended, so that its failed contacts can be retried"):
            first = await visible_campaign(self._salesdb, request, request.path_params["bulksms_id"])
            key = idempotency_key.key_of(request)
            once = retry_failed.idempotency_key(first, key) if key else None
            if once and (known := await idempotency_key.replay(self._salesdb, once, 201)):
                return known
            try:
                async with self._salesdb.transaction() as connection:
                    answer = msgspec.json.encode(CampaignView.of(await retry_failed.create(connection, first)))
                    if once:
                        await idempotency.store_once(connection, once, answer)
            except KeyInUseError:
                assert once is not None
                return await idempotency_key.replayed(self._salesdb, once, 201)
            except NothingFailedError as error:
                raise Problem(409, "Nothing to retry", str(error)) from None
            return idempotency_key.answer(answer, 201)

    def _changed(self, campaign: Campaign, status: int = 200) -> Response:
        """The campaign as it is now, told also to whoever watches it."""
        self._on_changed([campaign.id])
        return json_response(CampaignView.of(campaign), status)


@asynccontextmanager
async def _domain_errors(what: str) -> AsyncIterator[None]:
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
