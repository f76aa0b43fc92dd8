"""Who may not be processed for, and why: whoever asked to be forgotten, and a child without a guardian's consent."""

from collections.abc import Collection
from datetime import date
from typing import Literal
from uuid import UUID

from service.database import Connection

Bar = Literal["account-closed", "guardian-consent-needed"]

_BARRED = """
    SELECT e.participant_id, 'account-closed' AS because FROM service.erasure e WHERE e.participant_id = ANY($1)
    UNION ALL
    SELECT m.participant_id, 'guardian-consent-needed' FROM service.minor m
    WHERE m.participant_id = ANY($1)
        AND m.until > coalesce($2::date, (clock_timestamp() AT TIME ZONE 'Asia/Shanghai')::date) AND NOT EXISTS (
        SELECT FROM service.guardianship g WHERE g.participant_id = m.participant_id AND g.withdrawn_at IS NULL)
"""


class AccountClosed(Exception):
    """The participant asked to be forgotten: nothing new is taken for them."""


class GuardianConsentNeeded(Exception):
    """The participant is under 14, and no guardian's consent stands."""


async def read_barred(tx: Connection, participant_ids: Collection[UUID], today: date | None = None) -> dict[UUID, Bar]:
    """Those of these participants for whom nothing new may be taken, with the slug that says why; without a day, as of
    the database's."""
    rows = await tx.fetch(_BARRED, list(participant_ids), today)
    barred: dict[UUID, Bar] = {}
    for participant_id, because in rows:  # of two reasons the closing is told: it does not pass
        if barred.get(participant_id) != "account-closed":
            barred[participant_id] = because
    return barred


async def require_unbarred(tx: Connection, participant_id: UUID) -> None:
    """Raises AccountClosed, GuardianConsentNeeded. The participant's account is locked, or postings are excluded."""
    because = (await read_barred(tx, [participant_id])).get(participant_id)
    if because == "account-closed":
        raise AccountClosed
    if because == "guardian-consent-needed":
        raise GuardianConsentNeeded
