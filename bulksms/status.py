"""The statuses of messages and campaigns, and the order in which a message's status may move."""

from enum import StrEnum


class SmsStatus(StrEnum):
    """What is known of a message, from the weakest news to the strongest.

    The order is that of the enum type in salesdb, and the whole rule: a report is applied if its status is greater than
    the row's, and is stale otherwise. So any order, repetition and batching of the same reports ends the same.
    A truthful carrier tells `queued -> sent | failed` and `sent -> delivered | undelivered`; should it contradict
    itself, the stronger news holds (a delivered message did leave). From `sent` on a message has left and is charged.
    """

    QUEUED = "queued"
    FAILED = "failed"
    SENT = "sent"
    UNDELIVERED = "undelivered"
    DELIVERED = "delivered"


class CampaignStatus(StrEnum):
    """Where a campaign is in its life."""

    CREATED = "created"
    SCHEDULED = "scheduled"
    INPROGRESS = "inprogress"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    COMPLETED = "completed"
