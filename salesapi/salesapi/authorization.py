"""Access of a caller to campaigns: one of another workspace is treated like one that does not exist."""

from uuid import UUID

from starlette.requests import Request

from bulksms import campaigns
from bulksms.campaigns import Campaign, CampaignNotFoundError
from common.auth.actor import note_object
from common.auth.middleware import caller
from common.database import Database
from common.web.problems import Problem


def check_not_purged(campaign: Campaign) -> Campaign:
    """The campaign, if its contacts are still there. Raises Problem 410."""
    if campaign.purged_at is not None:
        raise Problem(
            410,
            "Deleted",
            f"the text and the contacts of this campaign were deleted on {campaign.purged_at:%Y-%m-%d}, when their "
            "retention had ended; its counters remain",
        )
    return campaign


async def visible_campaign(salesdb: Database, request: Request, bulksms_id: UUID | str) -> Campaign:
    """The campaign of an id (any text, such as in a URL) that the caller may see. Raises CampaignNotFoundError."""
    note_object(request, bulksms_id)
    campaign = await campaigns.find(salesdb, str(bulksms_id))
    if not caller(request).sees(campaign.workspace_id):
        raise CampaignNotFoundError(f"there is no campaign {bulksms_id}")
    note_object(request, campaign.id, campaign.workspace_id)
    return campaign
