"""The one place where a caller finds a campaign, or does not: another workspace's is as one that is not there."""

from uuid import UUID

from starlette.requests import Request

from bulksms import campaigns
from bulksms.campaigns import Campaign, CampaignNotFoundError
from common.auth.middleware import caller
from common.database import Database


async def owned(salesdb: Database, request: Request, bulksms_id: UUID | str) -> Campaign:
    """A campaign that the caller may know of, by its id (in a URL, any text). Raises CampaignNotFoundError."""
    campaign = await campaigns.find(salesdb, str(bulksms_id))
    if not caller(request).sees(campaign.workspace_id):
        raise CampaignNotFoundError(f"there is no campaign {bulksms_id}")
    return campaign
