"""The statuses of messages and campaigns, and the order in which a message's status may change."""

from enum import StrEnum


class SmsStatus(StrEnum):
    """The delivery status of a message, in ascending order.

    The order is that of the enum type in salesdb: a report is applied if its status is greater than the message's, and
    is stale otherwise. So the same reports give the same result in any order, batching and repetition.
    The regular transitions are `queued -> sent | failed` and `sent -> delivered | undelivered`; if reports contradict
    each other, the greater status is kept (a delivered message was sent). A message is charged from `sent` on.
    """

    QUEUED = "queued"
    FAILED = "failed"
    SENT = "sent"
    UNDELIVERED = "undelivered"
    DELIVERED = "delivered"


class CampaignStatus(StrEnum):
    """The status of a campaign; `lifecycle` has the transitions."""

    CREATED = "created"
    SCHEDULED = "scheduled"
    INPROGRESS = "inprogress"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    COMPLETED = "completed"
