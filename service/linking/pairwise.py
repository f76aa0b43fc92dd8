"""Pairwise ids: each party knows a person by an id of its own, and two of them cannot be found to be one person's.

The id is base64url of 16 bytes of HMAC-SHA-256 over a random seed, which is made when the party is first linked and
kept: who unlinks and links again is known by the same id. The database without the keyring does not give the id, nor
does the id lead to its row; and once the row is deleted nobody can make it again.
"""

import base64
from typing import Literal
from uuid import UUID

from service.clock import Fresh
from service.database import Connection
from service.keyring import Keyring

SEED_BYTES = 16
SUBJECT_BYTES = 16  # nobody guesses one of 2^128

PartyKind = Literal["source", "bank"]

_MAKE = """
    INSERT INTO service.pairwise (participant_id, party, seed, key_version, made_at)
    VALUES ($1, $2, $3, $4, clock_timestamp()) ON CONFLICT DO NOTHING
"""  # a conflict is a party that was linked before
_SEED = "SELECT seed, key_version FROM service.pairwise WHERE participant_id = $1 AND party = $2"


def party_code(kind: PartyKind, uri: str) -> str:
    """Who asks, as ids and requests name it: all clients that speak for one source or one bank are one party."""
    return f"{kind}:{uri}"


async def pairwise_subject(tx: Connection, keyring: Keyring, participant_id: UUID, party: str, fresh: Fresh) -> str:
    """The id by which this party knows this person, made when there is none yet."""
    seed = fresh.random(SEED_BYTES)
    await tx.execute(_MAKE, participant_id, party, seed, keyring.lasting)
    row = await tx.fetchrow(_SEED, participant_id, party)
    assert row is not None  # there was one, or there is now
    tag = keyring.tag("pairwise", party.encode() + b"\0" + row["seed"], row["key_version"])
    return base64.urlsafe_b64encode(tag[:SUBJECT_BYTES]).rstrip(b"=").decode("ascii")
