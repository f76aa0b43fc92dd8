"""Whether an offer may be held at this moment: one statement, under the lock that keeps the board still."""

from collections.abc import Mapping
from datetime import date

from service.database import Connection
from service.products.model import Reason

STANDINGS: Mapping[str, Reason] = {
    reason.code: reason
    for reason in (
        Reason("offer-not-listed", "该权益未上架", "the offer is not on the board"),
        Reason("offer-suspended", "该权益已暂停", "the offer is suspended"),
        Reason("product-not-listed", "其产品未上架或证据已到期", "its product is not listed, or its evidence ended"),
        Reason("product-suspended", "其产品已暂停", "its product is suspended"),
        Reason("bank-suspended", "银行已暂停", "the bank is suspended"),
        Reason("bank-differs", "该权益属于另一家银行", "the offer is another bank's"),
    )
}
"""Why an offer cannot be held now, by the codes of `standing`."""

_STANDING = """
    SELECT o.state AS offer_state, o.good_through < $3 AS offer_ended, d.bank, b.state AS bank_state,
        p.state AS product_state, p.good_through < $3 AS product_ended
    FROM service.listing o
    JOIN service.listing_document d USING (kind, id, version)
    LEFT JOIN service.listing p ON p.kind = 'product' AND p.id = d.product AND p.state IN ('listed', 'suspended')
    LEFT JOIN service.bank b ON b.uri = d.bank
    WHERE o.kind = 'offer' AND o.id = $1 AND o.version = $2
"""


async def standing(tx: Connection, offer_id: str, version: int, bank: str | None = None, *, day: date) -> str | None:
    """Why the offer cannot be held on this day, a key of STANDINGS; None when it can.

    bank   the URI of the bank that asks for the hold; None when the participant does
    """
    row = await tx.fetchrow(_STANDING, offer_id, version, day)
    if row is None or row["offer_state"] in ("submitted", "taken_down") or row["offer_ended"]:
        return "offer-not-listed"
    if bank is not None and row["bank"] != bank:
        return "bank-differs"
    if row["bank_state"] != "active":
        return "bank-suspended"
    if row["offer_state"] == "suspended":
        return "offer-suspended"
    if row["product_state"] is None or row["product_ended"]:
        return "product-not-listed"
    return "product-suspended" if row["product_state"] == "suspended" else None
