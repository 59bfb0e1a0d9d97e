"""`GET /bulksms/{id}/timeline`: how a campaign went, for a plot."""

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bulksms import timeline
from bulksms.campaigns import CampaignNotFoundError
from common.database import Database
from common.web.problems import Problem
from common.web.requests import json_response
from salesapi.salesapi.authorization import owned
from salesapi.salesapi.schemas import MomentView, TimelineView


class Timeline:
    """The endpoint."""

    def __init__(self, salesdb: Database) -> None:
        self._salesdb = salesdb

    @property
    def route(self) -> Route:
        return Route("/bulksms/{bulksms_id}/timeline", self.endpoint)

    async def endpoint(self, request: Request) -> Response:
        try:
            campaign = await owned(self._salesdb, request, request.path_params["bulksms_id"])
        except CampaignNotFoundError as error:
            raise Problem(404, "No such campaign", str(error)) from None
        told = await timeline.read(self._salesdb, campaign, datetime.now(UTC))
        return json_response(TimelineView(campaign.contact_count, [MomentView(*moment) for moment in told]))
