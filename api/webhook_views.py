"""What calls about webhooks take and answer."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.webhooks.endpoints import LONGEST_URL

Kind = Literal["hold", "capture", "release", "refund", "listing", "statement"]
Url = Annotated[str, StringConstraints(max_length=LONGEST_URL)]
Index = Annotated[int, Field(ge=0, le=2**53)]
LONGEST_OVERLAP_HOURS = 168


class WebhookWanted(BaseModel):
    """Where events are to be sent. Without `kinds` all kinds are; without `from_index` those that are logged from now
    on, with it those from that place of the log on."""

    model_config = ConfigDict(strict=True, extra="forbid")

    url: Url
    kinds: Annotated[list[Kind], Field(max_length=20)] = []
    from_index: Index | None = None


class WebhookChange(BaseModel):
    """What is to be different. Made active again, a webhook goes on where it was."""

    model_config = ConfigDict(strict=True, extra="forbid")

    url: Url | None = None
    kinds: Annotated[list[Kind], Field(max_length=20)] | None = None
    state: Literal["active", "paused"] | None = None


class SecretWanted(BaseModel):
    """For how many hours the former secret signs beside the new one; 0 ends it at once."""

    model_config = ConfigDict(strict=True, extra="forbid")

    overlap_hours: Annotated[int, Field(ge=0, le=LONGEST_OVERLAP_HOURS)] = 24


class ReplayWanted(BaseModel):
    """The place of the log from which on everything is sent once more, under the ids it had."""

    model_config = ConfigDict(strict=True, extra="forbid")

    from_index: Index


class WebhookView(BaseModel):
    """A webhook and its queue. `queued_to` is the last place of the log that was looked at for it; a webhook is
    `disabled` when its receiver answered 410."""

    webhook_id: UUID
    url: str
    kinds: list[str]
    state: Literal["active", "paused", "disabled"]
    because: str | None
    queued_to: int
    waiting: int
    dead: int
    waiting_since: datetime | None
    created_at: datetime
    changed_at: datetime


class NewWebhookView(WebhookView):
    """With the secret that signs, which is shown this once."""

    secret: str


class WebhooksView(BaseModel):
    """The bank's webhooks, the oldest first."""

    webhooks: list[WebhookView]


class SecretView(BaseModel):
    """The new secret, shown this once, and until when the former one signs beside it."""

    secret: str
    former_until: datetime


class QueuedView(BaseModel):
    """The message that was queued."""

    message_id: str


class MessageView(BaseModel):
    """An event on its way, delivered, or dead after the last attempt. `place` is -1 for a test; `due_at` is null while
    an earlier event of the same redemption is not delivered."""

    message_id: str
    kind: str
    place: int
    state: Literal["waiting", "delivered", "dead"]
    failed: int
    due_at: datetime | None
    status: int | None
    fault: str | None
    queued_at: datetime
    ended_at: datetime | None


class MessagesView(BaseModel):
    """Those of the latest places first."""

    messages: list[MessageView]


class AttemptView(BaseModel):
    """What the receiver answered, or why there was no answer."""

    message_id: str
    kind: str
    attempted_at: datetime
    number: int
    delivered: bool
    status: int | None
    fault: str | None
    duration_ms: int


class AttemptsView(BaseModel):
    """The last attempts, newest first."""

    attempts: list[AttemptView]
