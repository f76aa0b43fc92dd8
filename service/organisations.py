"""Organisations 单位: the unified social credit code they are known by, their enrolment, and what they waive for good.

A code is 18 characters after GB 32100-2015: the registering department, the kind of organisation, six digits of the
administrative division, nine characters of the organisation, and a check character that catches any one mistyped
character and any two that changed places. The platform checks a code, makes its tag and forgets it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from string import ascii_lowercase, ascii_uppercase
from typing import Literal
from uuid import UUID

from sqlalchemy import Column, DateTime, Index, LargeBinary, SmallInteger, Text, Uuid
from sqlmodel import Field

from service.database import Connection, ServiceTable

ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"  # 31 characters, a prime number of them; no I, O, S, V, Z
LENGTH = 18
_UPPER = str.maketrans(ascii_lowercase, ascii_uppercase)  # str.upper() would make letters of others, FF of a ligature
_WEIGHTS = tuple(pow(3, place, 31) for place in range(LENGTH - 1))
_DIVISION = range(2, 8)  # positions 3 to 8, the administrative division: digits


class CodeMalformed(ValueError):
    """Not a unified social credit code; says what was expected where, and does not repeat the code.

    code       what is wrong: the length, a character, or the check character
    position   the character's, from 1; 0 for the length
    expected   how many characters, which ones, or which one
    """

    def __init__(
        self, code: Literal["code-length", "code-character", "code-check"], position: int, expected: str
    ) -> None:
        super().__init__(f"{code} at position {position}: expected {expected}")
        self.code = code
        self.position = position
        self.expected = expected


def check_character(first: str) -> str:
    """The 18th character of the code that begins with these 17, which are of the alphabet."""
    total = sum(weight * ALPHABET.index(character) for weight, character in zip(_WEIGHTS, first, strict=True))
    return ALPHABET[-total % 31]


def parse_code(text: str) -> str:
    """The code in its one form, upper case without spaces around it. Raises CodeMalformed.

    Full-width characters and the letters that the alphabet leaves out are refused, not guessed at.
    """
    code = text.strip(" ").translate(_UPPER)
    if len(code) != LENGTH:
        raise CodeMalformed("code-length", 0, str(LENGTH))
    for place, character in enumerate(code):
        if place in _DIVISION and character not in ALPHABET[:10]:
            raise CodeMalformed("code-character", place + 1, "0-9")
        if character not in ALPHABET:
            raise CodeMalformed("code-character", place + 1, "0-9 A-H J-N P-R T U W X Y")
    if code[-1] != (expected := check_character(code[:-1])):
        raise CodeMalformed("code-check", LENGTH, expected)
    return code


class Organisation(ServiceTable, table=True):
    """An organisation, as the tag of its code, and which participant it is; keyed by itself.

    That a participant is one organisation is decided under the lock of its account.
    """

    __tablename__ = "organisation"
    code_tag: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    key_version: int = Field(sa_column=Column(SmallInteger, nullable=False))
    participant_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    recorded_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    __table_args__ = (Index("organisation_participant_index", "participant_id"),)


class Mandate(ServiceTable, table=True):
    """That whoever enrolled an organisation may do so: the version of the text, when it was given, and when it ended.

    An organisation that several providers enrol gave each of them one.
    """

    __tablename__ = "mandate"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    text_version: str = Field(sa_column=Column(Text, primary_key=True))
    given_at: datetime = Field(sa_column=Column(DateTime(timezone=True), primary_key=True))
    recorded_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    withdrawn_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))


class Waiver(ServiceTable, table=True):
    """The trading of an installation's reductions, given up for good by its owner. Append-only."""

    __tablename__ = "waiver"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    installation_tag: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    key_version: int = Field(sa_column=Column(SmallInteger, nullable=False))
    text_version: str = Field(sa_column=Column(Text, nullable=False))
    given_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    recorded_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


@dataclass(frozen=True, slots=True)
class NewOrganisation:
    """The organisation to enrol: the tag of its code, and the mandate of whoever enrols it."""

    code_tag: bytes
    key_version: int
    text_version: str
    given_at: datetime


_OWNERS = """
    SELECT o.code_tag, o.participant_id, p.kind
    FROM service.organisation o JOIN service.participant p USING (participant_id) WHERE o.code_tag = ANY($1)
"""

# Two enrolments of one organisation at once meet in the key of its code.
_TAKE = """
    INSERT INTO service.organisation (code_tag, key_version, participant_id, recorded_at)
    SELECT new.*, clock_timestamp() FROM unnest($1::bytea[], $2::int2[], $3::uuid[]) AS new
    ON CONFLICT DO NOTHING
"""

_CODES = "SELECT participant_id, code_tag FROM service.organisation WHERE participant_id = ANY($1)"

_MANDATES = """
    INSERT INTO service.mandate (participant_id, text_version, given_at, recorded_at)
    SELECT new.*, clock_timestamp() FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS new
    ON CONFLICT DO NOTHING
"""  # a conflict is the same mandate, told again


async def find_organisations(tx: Connection, code_tags: Sequence[bytes]) -> dict[bytes, tuple[UUID, str]]:
    """The participants that these codes were enrolled as, and their kinds; codes that were not are absent."""
    return {row["code_tag"]: (row["participant_id"], row["kind"]) for row in await tx.fetch(_OWNERS, code_tags)}


async def codes_of(tx: Connection, participant_ids: Sequence[UUID]) -> dict[UUID, bytes]:
    """The tags of the codes by which these participants are known; those without one are absent."""
    return {row["participant_id"]: row["code_tag"] for row in await tx.fetch(_CODES, participant_ids)}


async def take_codes(tx: Connection, taken: Sequence[tuple[UUID, NewOrganisation]]) -> bool:
    """Make these participants, whose accounts the caller has locked, the organisations; False when a code was taken in
    between, by somebody else: the transaction is then to be rolled back."""
    codes = [organisation.code_tag for _, organisation in taken]
    versions = [organisation.key_version for _, organisation in taken]
    done: str = await tx.execute(_TAKE, codes, versions, [participant_id for participant_id, _ in taken])
    return done == f"INSERT 0 {len(taken)}"


async def record_mandates(tx: Connection, given: Sequence[tuple[UUID, NewOrganisation]]) -> None:
    """Keep the mandates of whoever enrols these organisations."""
    texts = [organisation.text_version for _, organisation in given]
    moments = [organisation.given_at for _, organisation in given]
    await tx.execute(_MANDATES, [participant_id for participant_id, _ in given], texts, moments)


@dataclass(frozen=True, slots=True)
class NewWaiver:
    """What is waived: the tag of the installation, and the version of the text that was agreed to."""

    installation_tag: bytes
    key_version: int
    text_version: str
    given_at: datetime


@dataclass(frozen=True, slots=True)
class GivenWaiver:
    """A waiver on record."""

    installation_tag: bytes
    key_version: int
    text_version: str
    given_at: datetime
    recorded_at: datetime


_WAIVE = """
    INSERT INTO service.waiver (participant_id, installation_tag, key_version, text_version, given_at, recorded_at)
    VALUES ($1, $2, $3, $4, $5, clock_timestamp()) ON CONFLICT DO NOTHING RETURNING participant_id
"""  # a conflict is the same thing given up again: the first time counts, and is what is answered

_WAIVERS = """
    SELECT installation_tag, key_version, text_version, given_at, recorded_at FROM service.waiver
    WHERE participant_id = $1 ORDER BY recorded_at, installation_tag
"""


async def waive(tx: Connection, participant_id: UUID, waiver: NewWaiver) -> tuple[GivenWaiver, bool]:
    """Record a waiver; the one on record, and whether it is new. There is no way back."""
    made = await tx.fetchval(
        _WAIVE, participant_id, waiver.installation_tag, waiver.key_version, waiver.text_version, waiver.given_at
    )
    given = await list_waivers(tx, participant_id)
    return next(each for each in given if each.installation_tag == waiver.installation_tag), made is not None


async def list_waivers(tx: Connection, participant_id: UUID) -> Sequence[GivenWaiver]:
    """Everything this participant has waived, in order of recording."""
    return [GivenWaiver(*row.values()) for row in await tx.fetch(_WAIVERS, participant_id)]
