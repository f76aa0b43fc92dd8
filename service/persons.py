"""Persons 自然人: whoever signs in by the city's identity provider is one participant, the same each time.

The platform keeps who that is apart from everything else (service.vault), under a keyed tag of the identity provider
and its id for the person. Nobody is enrolled who has not agreed to the terms.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from service.clock import Fresh, shanghai_day
from service.database import Connection
from service.enrolment import enrol
from service.keyring import Keyring
from service.linking.consents import agree_to_terms, agreed_terms
from service.rights.guardians import note_birth
from service.rights.tombstones import bring_back
from service.vault import Vault, find_person, keep_person

_TURN = "SELECT pg_advisory_xact_lock($1)"
_EXCHANGED = """
    INSERT INTO service.exchanged_token (tag, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true
"""  # a conflict is said: TokenExchanged
_SWEEP = "DELETE FROM service.exchanged_token WHERE expires_at < clock_timestamp() - $1::interval"
_SWEPT_AFTER = timedelta(hours=1)  # beyond a token's end, whatever clocks differ by


class ConsentRequired(Exception):
    """The person has not agreed to the terms as they are now."""


class TokenExchanged(Exception):
    """This token was exchanged before."""


class PersonErased(Exception):
    """The person was erased, or is being: they cannot sign in."""


@dataclass(frozen=True, slots=True)
class Identified:
    """Whom the identity provider says this is.

    issuer, subject   the identity provider, and its id for the person
    birth_month       as YYYY-MM, where it told; nothing else that it tells is kept
    token             what the provider signed of its token, and `expires_at` when that ends
    """

    issuer: str
    subject: str
    birth_month: str | None
    token: bytes
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The participant that a person is."""

    participant_id: UUID
    enrolled: bool


@dataclass(frozen=True, slots=True)
class Terms:
    """The version of the terms that is in force, and the one that the person agrees to with this call, if any."""

    current: str
    given: str | None

    @property
    def agreed(self) -> bool:
        return self.given == self.current


def person_tag(keyring: Keyring, issuer: str, subject: str) -> bytes:
    """The tag under which a person is kept: 32 bytes, the same for ever."""
    return keyring.tag("person", issuer.encode() + b"\0" + subject.encode())


async def sign_in(
    tx: Connection,
    vault: Vault,
    keyring: Keyring,
    who: Identified,
    terms: Terms,
    *,
    programme: str,
    region: str,
    fresh: Fresh,
    offset: timedelta,
) -> SignedIn:
    """The participant whom this person is, enrolled now if they never were. Call it inside a transaction, and roll that
    back with whatever is raised: a token that came without the consent can come again with it.

    Raises TokenExchanged, ConsentRequired, PersonErased.
    """
    tag = person_tag(keyring, who.issuer, who.subject)
    await tx.execute(_TURN, int.from_bytes(tag[:8], "big", signed=True))  # two first sign-ins of one person take turns
    used = keyring.tag("person", b"token\0" + who.token)
    if not await tx.fetchval(_EXCHANGED, used, who.expires_at):
        raise TokenExchanged
    known = await find_person(tx, tag)
    if known is not None:
        if known.state != "active":
            raise PersonErased
        if terms.current not in await agreed_terms(tx, known.participant_id):
            await _agree(tx, known.participant_id, terms, fresh, offset)
        return SignedIn(known.participant_id, enrolled=False)
    if not terms.agreed:
        raise ConsentRequired
    new = await enrol(tx, vault, fresh.id(), (), kind="citizen", programme=programme, region=region)
    identity = {"issuer": who.issuer, "subject": who.subject}
    if who.birth_month is not None:
        identity["birth_month"] = who.birth_month
    await keep_person(tx, vault, new.participant_id, tag, identity, key_version=keyring.lasting)
    await bring_back(tx, [(new.participant_id, "person", 0, tag)])
    if who.birth_month is not None:
        born_in, today = date.fromisoformat(f"{who.birth_month}-01"), shanghai_day(fresh.clock())
        await note_birth(tx, new.participant_id, born_in, today)
    await _agree(tx, new.participant_id, terms, fresh, offset)
    return SignedIn(new.participant_id, enrolled=True)


async def _agree(tx: Connection, participant_id: UUID, terms: Terms, fresh: Fresh, offset: timedelta) -> None:
    if not terms.agreed:
        raise ConsentRequired
    await agree_to_terms(tx, participant_id, fresh.id(), terms.current, offset)


async def sweep_exchanged(tx: Connection) -> int:
    """Forget tokens that nobody takes any more; how many."""
    return int((await tx.execute(_SWEEP, _SWEPT_AFTER)).split()[-1])
