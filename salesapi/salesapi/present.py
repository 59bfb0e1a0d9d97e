"""A campaign as the API shows it."""

import msgspec

from bulksms.campaigns import Campaign
from bulksms.message import Encoding
from salesapi.salesapi.schemas import CampaignView


def present(campaign: Campaign) -> CampaignView:
    """The campaign's members; costs in credits as decimal strings, times in UTC."""
    return CampaignView(
        bulksms_id=campaign.id,
        name=campaign.name,
        workspace_id=campaign.workspace_id,
        status=campaign.status,
        pause_reason=campaign.pause_reason,
        message=campaign.message,
        encoding=Encoding(campaign.encoding),
        segments=campaign.segments,
        rows=campaign.row_count,
        accepted=campaign.contact_count,
        rejected=campaign.rejected_count,
        duplicate=campaign.duplicate_count,
        contacts=campaign.statuses,
        unsent=campaign.unsent_count,
        total_cost=campaign.total_cost,
        charged=campaign.charged,
        retry_of=campaign.retry_of,
        created_at=campaign.created_at,
        scheduled_for=campaign.scheduled_for,
        started_at=campaign.started_at,
        completed_at=campaign.completed_at,
    )


def encode(campaign: Campaign) -> bytes:
    """The campaign as JSON."""
    return msgspec.json.encode(present(campaign))
