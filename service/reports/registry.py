"""Whether a source signs, and with which keys."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from service.database import Connection
from service.manifests import RegisteredKey, read_keys

Signing = Literal["required", "optional"]


@dataclass(frozen=True, slots=True)
class SigningKeyOfSource:
    """A source's public key as JWK text, and when its signatures count: from `valid_from`, before `valid_to`."""

    public_key: str
    valid_from: datetime
    valid_to: datetime | None

    def counts(self, at: datetime) -> bool:
        """Whether a signature made at this moment counts."""
        return self.valid_from <= at and (self.valid_to is None or at < self.valid_to)


@dataclass(frozen=True, slots=True)
class Signer:
    """A source as one who signs.

    chosen   what an operator decided; None where the platform's own rule applies
    keys     every key it has had, by id
    """

    source_id: int
    grade: str
    chosen: Signing | None
    keys: Mapping[str, SigningKeyOfSource]

    def signing(self, *, production: bool) -> Signing:
        """What is asked of it: in production an operator's own records are signed, unless it was decided otherwise."""
        if self.chosen is not None:
            return self.chosen
        return "required" if production and self.grade == "A" else "optional"


_SOURCE = """
    SELECT s.source_id, s.grade, p.signing FROM service.source s LEFT JOIN service.source_policy p USING (source_id)
    WHERE s.uri = $1
"""
_SET = """
    INSERT INTO service.source_policy (source_id, signing, set_at)
    SELECT source_id, $2, clock_timestamp() + $3::interval FROM service.source WHERE uri = $1
    ON CONFLICT (source_id) DO UPDATE SET signing = excluded.signing, set_at = excluded.set_at
    RETURNING true
"""


async def read_signer(tx: Connection, uri: str) -> Signer | None:
    """The source of this URI as one who signs; None when there is none."""
    row = await tx.fetchrow(_SOURCE, uri)
    if row is None:
        return None
    keys = {key.key_id: _usable(key) for key in await read_keys(tx, row["source_id"])}
    return Signer(row["source_id"], row["grade"], row["signing"], keys)


def _usable(key: RegisteredKey) -> SigningKeyOfSource:
    return SigningKeyOfSource(key.public_key, key.valid_from, key.valid_to)


async def set_signing(tx: Connection, uri: str, signing: Signing, offset: timedelta) -> bool:
    """Decide whether a source must sign; whether there is such a source. Every process knows within a second."""
    return bool(await tx.fetchval(_SET, uri, signing, offset))
