"""Enrol a stated number of participants at once: the rows that POST /v1/participants writes, a statement per table.

One by one over HTTP, a hundred thousand enrolments would take longer than everything that is measured afterwards.
"""

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from service.activities.claims import register_tag
from service.activities.intake import subject_tag
from service.database import Connection
from service.keyring import Keyring
from service.organisations import check_character
from service.vault import Vault, make_keys

FIRM_ONE_IN = 50  # riders; all others are citizens
CHUNK = 10_000  # rows in one statement
CONSENTED_AT = datetime(2025, 1, 1, tzinfo=UTC)

_PARTICIPANTS = """
    INSERT INTO service.participant (participant_id, kind, programme, region, enrolled_at)
    SELECT new.id, new.kind, $3, $4, clock_timestamp() FROM unnest($1::uuid[], $2::text[]) AS new (id, kind)
"""

_ACCOUNTS = """
    INSERT INTO ledger.account (participant_id, kind, programme, region, opened_at)
    SELECT new.id, new.kind, $3, $4, clock_timestamp() FROM unnest($1::uuid[], $2::text[]) AS new (id, kind)
"""

_LINKS = """
    INSERT INTO service.link (source_id, subject_tag, key_version, link_id, participant_id, linked_at)
    SELECT $1, new.tag, $2, new.link_id, new.id, clock_timestamp()
    FROM unnest($3::bytea[], $4::uuid[], $5::uuid[]) AS new (tag, link_id, id)
"""

_ORGANISATIONS = """
    INSERT INTO service.organisation (code_tag, key_version, participant_id, recorded_at)
    SELECT new.tag, $1, new.id, clock_timestamp() FROM unnest($2::uuid[], $3::bytea[]) AS new (id, tag)
"""

_MANDATES = """
    INSERT INTO service.mandate (participant_id, text_version, given_at, recorded_at)
    SELECT id, 'load-tests-1', $1, clock_timestamp() FROM unnest($2::uuid[]) AS new (id)
"""

_CONSENTS = """
    INSERT INTO service.consent (participant_id, link_id, source_id, purpose, text_version, given_at, recorded_at)
    SELECT new.id, new.link_id, $1, 'carbon-credit', 'load-tests-1', $2, clock_timestamp()
    FROM unnest($3::uuid[], $4::uuid[]) AS new (id, link_id)
"""


@dataclass(frozen=True, slots=True)
class Rider:
    """An enrolled participant, and the provider's own id for it; `code` is a firm's, None of a citizen."""

    subject: str
    participant_id: UUID
    code: str | None = None

    @property
    def kind(self) -> str:
        return "citizen" if self.code is None else "firm"


def make_riders(count: int, seed: int = 1) -> list[Rider]:
    """So many riders, the same ones for the same seed; their pseudonyms are as scattered as real ones. A small share
    are firms."""
    chance = random.Random(seed)
    return [
        Rider(
            f"rider-{number}",
            UUID(int=chance.getrandbits(128), version=4),
            _code(number) if number % FIRM_ONE_IN == FIRM_ONE_IN - 1 else None,
        )
        for number in range(count)
    ]


def _code(number: int) -> str:
    """A unified social credit code of nobody's."""
    first = f"91310000LT{number:07}"
    return first + check_character(first)


async def enrol_all(
    connection: Connection,
    riders: list[Rider],
    *,
    keyring: Keyring,
    vault: Vault,
    source_uri: str,
    programme: str,
    region: str,
) -> None:
    """Enrol these riders and link them to a registered source, in one transaction, as the application's role."""
    source_id = await connection.fetchval("SELECT source_id FROM service.source WHERE uri = $1", source_uri)
    if source_id is None:
        raise LookupError(f"the source {source_uri} is not registered: PUT /v1/sources first")
    chance = random.Random(len(riders))
    async with connection.transaction():
        for start in range(0, len(riders), CHUNK):
            chunk = riders[start : start + CHUNK]
            ids = [rider.participant_id for rider in chunk]
            link_ids = [UUID(int=chance.getrandbits(128), version=4) for _ in chunk]
            tags = [subject_tag(keyring, source_uri, rider.subject) for rider in chunk]
            kinds = [rider.kind for rider in chunk]
            await connection.execute(_PARTICIPANTS, ids, kinds, programme, region)
            await connection.execute(_ACCOUNTS, ids, kinds, programme, region)
            await make_keys(connection, vault, ids)
            await connection.execute(_LINKS, source_id, keyring.lasting, tags, link_ids, ids)
            await connection.execute(_CONSENTS, source_id, CONSENTED_AT, ids, link_ids)
            firms = [(rider.participant_id, rider.code) for rider in chunk if rider.code]
            tags = [register_tag(keyring, "site", code) for _, code in firms]
            await connection.execute(_ORGANISATIONS, keyring.lasting, [firm for firm, _ in firms], tags)
            await connection.execute(_MANDATES, CONSENTED_AT, [firm for firm, _ in firms])
