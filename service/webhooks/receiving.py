"""The receiver's half of Standard Webhooks, for our own listening command and for whoever wants to read how it goes."""

import base64
import hmac
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from service.webhooks.signing import PREFIX

TOLERANCE = timedelta(minutes=5)


class NotVerified(Exception):
    """The request does not come from whoever has the secret, or does not come now; the message says why."""


def verify_delivery(secrets: Iterable[str], headers: Mapping[str, str], body: bytes, now: datetime) -> str:
    """The id of a delivery that one of these secrets signed: what is done once is done once for an id.

    secrets  as the platform showed them, `whsec_…`
    headers  with lower-case names
    body     the bytes as they came, before anything parses them

    Raises NotVerified.
    """
    message_id, timestamp, listed = (headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not (message_id and timestamp and listed):
        raise NotVerified("webhook-id, webhook-timestamp or webhook-signature is missing")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise NotVerified("webhook-timestamp is no number of seconds")
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE.total_seconds():
        raise NotVerified("webhook-timestamp is more than five minutes from our time")
    content = b".".join((message_id.encode("utf-8"), timestamp.encode("ascii"), body))
    given = [signature for version, _, signature in (one.partition(",") for one in listed.split()) if version == "v1"]
    for secret in secrets:
        expected = base64.b64encode(hmac.digest(_key(secret), content, "sha256"))
        if any(hmac.compare_digest(expected, signature.encode("utf-8")) for signature in given):
            return message_id
    raise NotVerified("no signature was made with the secret")


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except ValueError:
        raise NotVerified(f"the secret is not {PREFIX} and base64") from None
