"""Require that a bank signed a call: the signature is checked, its nonce is used up, and the call is kept."""

import hashlib
from dataclasses import dataclass
from uuid import UUID

from starlette.requests import Request

from api.auth import Caller, Forbidden
from api.dependencies import platform_of
from api.idempotency import read_idempotency_key
from api.problems import Problem
from api.signatures.checking import bank_profile, check
from api.signatures.reading import Message, SignatureFault
from api.signatures.reasons import refused
from service.banks.calls import KeptCall
from service.banks.registry import RegisteredBank

# What a signed call may end with beside the problems of any call with a body, for the documents of the routes.
SIGNED_PROBLEMS = ("bank-not-registered", "call-signature-refused")
MONEY_PROBLEMS = (*SIGNED_PROBLEMS, "idempotency-key-missing")


@dataclass(frozen=True, slots=True)
class SignedCall:
    """A call that its bank signed, on record.

    digest_hex        SHA-256 of signature base, a newline and the signature: what leaves of the log say of the call
    idempotency_key   of a call that moves points, None of another
    """

    call_id: UUID
    bank: RegisteredBank
    key_id: str
    digest_hex: str
    idempotency_key: str | None


async def require_signed(
    request: Request, body: bytes, caller: Caller, money: bool = True, *, lasting: bool = True
) -> SignedCall:
    """Check that the bank of this token signed this very request, and keep it for the auditor; commits by itself.

    lasting   kept for good; False for what carries words or a book, which has to be erasable

    A nonce counts once: a retry is signed anew, under the same Idempotency-Key. Raises Problem idempotency-key-missing,
    bank-not-registered, call-signature-refused, Forbidden for a token of no bank.
    """
    platform = platform_of(request)
    if caller.bank is None:
        raise Forbidden
    key = read_idempotency_key(request) if money else None
    bank = await calling_bank(request, caller)
    message = message_of(request, body)
    now = platform.fresh.clock()
    try:
        profile = bank_profile(message, money=money, authorities=platform.settings.public_authorities)
        verified = check(message, bank.keys, now, profile)
        call_id = platform.fresh.id()
        path = message.url.split("/", 3)[3]
        kept = KeptCall(
            call_id=call_id,
            bank_id=bank.bank_id,
            key_id=verified.key_id,
            nonce=verified.nonce,
            method=message.method,
            path=f"/{path}",
            signature_base=verified.base,
            signature=verified.signature,
            content_digest=verified.content_digest,
            body=body,
            lasting=lasting,
        )
        if not await platform.calls.ask(kept):
            raise SignatureFault("nonce-used")
    except SignatureFault as fault:
        raise refused(fault) from None
    digest = hashlib.sha256(verified.base + b"\n" + verified.signature).hexdigest()
    return SignedCall(call_id, bank, verified.key_id, digest, key)


async def calling_bank(request: Request, caller: Caller) -> RegisteredBank:
    """The bank that a token belongs to. Raises Forbidden for a token of no bank, Problem bank-not-registered."""
    if caller.bank is None:
        raise Forbidden
    bank = await platform_of(request).bank(caller.bank)
    if bank is None:
        raise Problem("bank-not-registered")
    return bank


def message_of(request: Request, body: bytes) -> Message:
    """The request as it was signed: the address as it came, not as it was decoded for the routes."""
    scope = request.scope
    raw: bytes = scope.get("raw_path") or request.url.path.encode("ascii", "replace")
    query: bytes = scope["query_string"]
    address = f"{scope['scheme']}://{request.headers.get('host', '')}{raw.decode('latin-1')}"
    if query:
        address += f"?{query.decode('latin-1')}"
    fields = tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"])
    return Message(request.method, address, fields, body)
