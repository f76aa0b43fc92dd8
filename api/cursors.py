"""Cursors of lists: opaque and signed, so nobody builds one by hand and what is inside may change."""

import base64
import hmac

from api.problems import Problem
from service.keyring import Keyring

_TAG_BYTES = 16


def seal(keyring: Keyring, whose: bytes, place: bytes) -> str:
    """The cursor of a place in the list `whose` names; it is good for no other list."""
    return base64.urlsafe_b64encode(place + keyring.tag("cursor", whose + place)[:_TAG_BYTES]).decode().rstrip("=")


def unseal(keyring: Keyring, whose: bytes, cursor: str) -> bytes:
    """The place; a cursor that was sealed under any key of the ring is good. Raises Problem invalid-cursor."""
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:
        raise Problem("invalid-cursor") from None
    place, tag = raw[:-_TAG_BYTES], raw[-_TAG_BYTES:]
    known = (keyring.tag("cursor", whose + place, version)[:_TAG_BYTES] for version in keyring.versions)
    if not any(hmac.compare_digest(tag, expected) for expected in known):
        raise Problem("invalid-cursor")
    return place
