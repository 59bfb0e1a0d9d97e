"""Endpoints that run, schedule, pause, resume, cancel and delete a campaign, and retry its failed contacts."""

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
from bulksms.quotas import QuotaExceededError, Quotas
from bulksms.retry_failed import AlreadyRetriedError, NothingFailedError
from common.audit_log import Actor
from common.auth.actor import actor
from common.database import Database
from common.web.problems import Problem
from common.web.requests import json_response, read_json
from rpc.client import InsufficientCreditError, NotFoundError, RpcUnavailableError
from salesapi.salesapi import idempotency_key
from salesapi.salesapi.authorization import check_not_purged, visible_campaign
from salesapi.salesapi.campaign_runner import CampaignRunner
from salesapi.salesapi.schemas import CampaignReference, CampaignView, RunRequest, quota_exceeded

_MAX_AHEAD = timedelta(days=366)


def check_start_time(moment: datetime) -> datetime:
    """Check a time at which a campaign is to start. Raises Problem 422."""
    now = datetime.now(UTC)
    if not now < moment <= now + _MAX_AHEAD:
        raise Problem(
            422,
            "Time not usable",
            f"scheduled_for: {moment.isoformat()} must be in the future and at most {_MAX_AHEAD.days} days away; "
            "leave it out to run now",
        )
    return moment


class LifecycleEndpoints:
    """The handlers; `on_changed` gets the ids of campaigns whose status may have changed."""

    def __init__(
        self,
        salesdb: Database,
        runner: CampaignRunner,
        quotas: Quotas,
        on_changed: Callable[[Sequence[UUID]], None],
    ) -> None:
        self._salesdb = salesdb
        self._runner = runner
        self._quotas = quotas
        self._on_changed = on_changed

    async def run(self, request: Request) -> Response:
        """`POST /run`: start a campaign now or schedule it."""
        body = await read_json(request, RunRequest)
        async with _domain_errors("can be run"):
            campaign = await visible_campaign(self._salesdb, request, body.bulksms_id)
            key = idempotency_key.key_of(request)
            request_key = lifecycle.run_key(campaign, key, body.scheduled_for) if key else None
            if request_key and (stored := await idempotency_key.replay(self._salesdb, request_key, 202)):
                return stored
            try:
                return self._changed(await self._run(body, actor(request), request_key), 202)
            except WrongStateError:  # perhaps a concurrent request with the same key started it
                if request_key and (stored := await idempotency_key.replay(self._salesdb, request_key, 202)):
                    return stored
                raise

    async def _run(self, body: RunRequest, who: Actor, request_key: Key | None) -> Campaign:
        if body.scheduled_for is None:
            return await self._runner.run(body.bulksms_id, who, request_key.key if request_key else None)
        return await self._runner.schedule(body.bulksms_id, check_start_time(body.scheduled_for), who, request_key)

    async def pause(self, request: Request) -> Response:
        """`POST /pause`: stop submitting a campaign to the carrier."""
        body = await read_json(request, CampaignReference)
        async with _domain_errors("can be paused"):
            await visible_campaign(self._salesdb, request, body.bulksms_id)
            return self._changed(await lifecycle.pause(self._salesdb, body.bulksms_id, actor(request)))

    async def resume(self, request: Request) -> Response:
        """`POST /resume`: resume a paused campaign."""
        body = await read_json(request, CampaignReference)
        async with _domain_errors("can be resumed"):
            await visible_campaign(self._salesdb, request, body.bulksms_id)
            return self._changed(await self._runner.resume(body.bulksms_id, actor(request)))

    async def cancel(self, request: Request) -> Response:
        """`POST /cancel`: cancel a campaign; unsent messages stay unsent."""
        body = await read_json(request, CampaignReference)
        async with _domain_errors("can be cancelled"):
            await visible_campaign(self._salesdb, request, body.bulksms_id)
            return self._changed(await self._runner.cancel(body.bulksms_id, actor(request)))

    async def delete(self, request: Request) -> Response:
        """`DELETE /bulksms/{id}`: delete a campaign that was not run or has ended; its costs stay in the books."""
        async with _domain_errors("can be deleted; cancel it, or wait until it has ended"):
            campaign = await visible_campaign(self._salesdb, request, request.path_params["bulksms_id"])
            await self._runner.delete(campaign.id, actor(request))
            return Response(status_code=204)

    async def retry_failed(self, request: Request) -> Response:
        """`POST /bulksms/{id}/retry-failed`: create a new campaign from the failed contacts of one."""
        async with _domain_errors("has ended, so that its failed contacts can be retried"):
            original = await visible_campaign(self._salesdb, request, request.path_params["bulksms_id"])
            key = idempotency_key.key_of(request)
            request_key = retry_failed.idempotency_key(original, key) if key else None
            if request_key and (stored := await idempotency_key.replay(self._salesdb, request_key, 201)):
                return stored
            try:
                check_not_purged(original)
                async with self._salesdb.transaction() as connection:
                    retry = await retry_failed.create(connection, original, self._quotas, actor(request))
                    response = msgspec.json.encode(CampaignView.of(retry))
                    if request_key:
                        await idempotency.store_once(connection, request_key, response)
            except (KeyInUseError, AlreadyRetriedError, QuotaExceededError) as error:
                # perhaps a concurrent request with the same key created it
                if request_key and (stored := await idempotency_key.replay(self._salesdb, request_key, 201)):
                    return stored
                raise _refused(error) from None
            except NothingFailedError as error:
                raise Problem(409, "Nothing to retry", str(error)) from None
            return idempotency_key.response(response, 201)

    def _changed(self, campaign: Campaign, status: int = 200) -> Response:
        """The response with the campaign, whose progress is also published."""
        self._on_changed([campaign.id])
        return json_response(CampaignView.of(campaign), status)


def _refused(error: Exception) -> Exception:
    """The problem of a refused retry."""
    if isinstance(error, QuotaExceededError):
        return quota_exceeded(error)
    if isinstance(error, AlreadyRetriedError):
        return Problem(409, "Already retried", str(error), retry=error.retry)
    return error


@asynccontextmanager
async def _domain_errors(what: str) -> AsyncIterator[None]:
    """Convert the domain's errors to problems; `what`: the condition that the campaign does not meet."""
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
            "Temporarily unavailable",
            f"{error}; the request is recorded and will be completed when rpc is available; repeating it is harmless",
            headers={"Retry-After": "1"},
        ) from None
