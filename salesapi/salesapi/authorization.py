"""Which campaigns a caller may know of: one of another workspace is answered like one that does not exist."""

from uuid import UUID

from starlette.requests import Request

from bulksms import campaigns
from bulksms.campaigns import Campaign, CampaignNotFoundError
from common.auth.middleware import caller
from common.database import Database


async def visible_campaign(salesdb: Database, request: Request, bulksms_id: UUID | str) -> Campaign:
    """A campaign that the caller may know of, by its id (in a URL, any text). Raises CampaignNotFoundError."""
    campaign = await campaigns.find(salesdb, str(bulksms_id))
    if not caller(request).sees(campaign.workspace_id):
        raise CampaignNotFoundError(f"there is no campaign {bulksms_id}")
    return campaign
