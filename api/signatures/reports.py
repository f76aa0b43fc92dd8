"""Check the signature under a source's call, and keep the call: before anything is posted that rests on it."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from starlette.requests import Request

from api.auth import Caller
from api.dependencies import platform_of
from api.platform import Platform
from api.signatures.calls import message_of
from api.signatures.checking import Verified, check, source_profile
from api.signatures.reading import Message, SignatureFault
from api.signatures.reasons import refused
from service.activities.intake import Report, subject_tag
from service.reports.keeping import KeptReport

REFUSED = "report-signature-refused"
_FIELDS = ("signature", "signature-input")
_ATTRIBUTE = "ce-"  # what the headers of an event in binary mode begin with
_SURROGATES = frozenset(map(chr, range(0xD800, 0xE000)))  # JSON can write them, and UTF-8 cannot


@dataclass(frozen=True, slots=True)
class SignedReport:
    """A source's call whose signature holds; it is not on record yet."""

    source_id: int
    message: Message
    verified: Verified

    @property
    def digest_hex(self) -> str:
        """SHA-256 of signature base, a newline and the signature: what the log says of a call about one event."""
        return hashlib.sha256(self.verified.base + b"\n" + self.verified.signature).hexdigest()


async def verified_report(request: Request, body: bytes, caller: Caller) -> SignedReport | None:
    """The call of a source, if it is signed; None where it is not and need not be, or where nobody is registered who
    could sign. A signature that is there is checked, whether it was asked for or not.

    Raises Problem report-signature-refused.
    """
    platform = platform_of(request)
    signer = None if caller.source is None else await platform.signer(caller.source)
    if signer is None:
        return None
    if not any(name in request.headers for name in _FIELDS):
        if signer.signing(production=platform.settings.mode == "production") == "required":
            raise refused(SignatureFault("missing", "signature-input"), REFUSED)
        return None
    message = message_of(request, body)
    try:
        _require_no_attributes(message)
        profile = source_profile(message, platform.settings.public_authorities)
        return SignedReport(signer.source_id, message, check(message, signer.keys, platform.fresh.clock(), profile))
    except SignatureFault as fault:
        raise refused(fault, REFUSED) from None


def _require_no_attributes(message: Message) -> None:
    """Raises SignatureFault for an event in binary mode, whose attributes are headers: they would have to be signed."""
    attribute = next((name for name, _ in message.fields if name.startswith(_ATTRIBUTE)), None)
    if attribute is not None:
        raise SignatureFault("binary", attribute[:128])


async def keep_activities(
    platform: Platform, report: SignedReport, events: Sequence[object], judged: Mapping[int, Report]
) -> None:
    """Keep a call that reports activities; its events as they came, and by their places those that were judged.

    Its body is found again for everybody whom it names, also in an event that is not well formed. Raises Problem
    report-signature-refused.
    """
    tags = {each.subject[1] for each in judged.values()}
    source = next(iter(judged.values())).licence.uri
    for number, event in enumerate(events):
        named = event.get("subject") if number not in judged and isinstance(event, dict) else None
        if isinstance(named, str) and not any(character in _SURROGATES for character in named):
            tags.add(subject_tag(platform.keyring, source, named))
    stored = [each.activity_id for each in judged.values() if not each.stores_nothing]
    await keep_report(platform, report, stored, tags)


async def keep_report(
    platform: Platform, report: SignedReport, activities: Collection[UUID] = (), subjects: Collection[bytes] = ()
) -> None:
    """Use the nonce up and put the call on record, with its body where it tells of somebody; commits by itself.

    activities   the ids under which its events will be stored
    subjects     tags of the people it tells of

    A nonce counts once: a retry is signed anew. Raises Problem report-signature-refused.
    """
    verified, message = report.verified, report.message
    kept = KeptReport(
        platform.fresh.id(),
        report.source_id,
        verified.key_id,
        verified.nonce,
        message.method,
        f"/{message.url.split('/', 3)[3]}",
        verified.base,
        verified.signature,
        verified.content_digest,
        message.body if subjects else None,
        tuple(activities),
        frozenset(subjects),
    )
    if not await platform.reports.ask(kept):
        raise refused(SignatureFault("nonce-used"), REFUSED)


async def require_report(request: Request, body: bytes, caller: Caller, *, dry_run: bool = False) -> None:
    """Check and keep the signature of a source's call that reports no activity: a settlement, a retraction. Of these
    the signature is kept, and not the body. Raises Problem report-signature-refused."""
    report = await verified_report(request, body, caller)
    if report is not None and not dry_run:
        await keep_report(platform_of(request), report)
