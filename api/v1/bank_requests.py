"""A bank starts a redemption in its own app: it asks, hands the person a code, and learns what became of it."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from api.auth import require_scope
from api.body import media_type, parse_json, read_body
from api.dependencies import BODY_PROBLEMS, CALL_PROBLEMS, JSON, admit, charge, openapi_body, parsed, platform_of
from api.entitlements import entitle
from api.platform import Platform
from api.problems import Fault, Problem, openapi_problems
from api.signatures.calls import SIGNED_PROBLEMS, calling_bank, require_signed
from api.v1.activities import Name
from api.v1.manifests import answered
from service.banks.registry import RegisteredBank
from service.banks.requests import CODE_BYTES, NewRequest, StoredRequest, code_text, create_request, read_request
from service.linking.banks import bank_subject_tag, linked_to
from service.products.model import Offer
from service.redemption.reading import read_redemption

router = APIRouter(prefix="/bank/requests", tags=["banks"])

BankReference = Annotated[
    str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")
]


class BankRequestWanted(BaseModel):
    """What a bank asks a person to redeem: units of the version of its offer that is on the board now.

    reference   the bank's own, for instance of an application; it names nobody
    subject     the bank's id for a person who has linked it: only they can then approve, and no code is handed over
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    offer: Name
    units: Annotated[int, Field(ge=1, le=2**53 - 1)]
    reference: BankReference | None = None
    subject: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{22}$")] | None = None


class BankRequestMade(BaseModel):
    """A request, and the code that finds it: shown once, to be handed to the person as a link or a QR code; null where
    a `subject` was named, who finds the request among their own."""

    request_id: UUID
    approval_code: str | None
    offer: str
    offer_version: int
    units: int
    expires_at: datetime


class BankRequestView(BaseModel):
    """What became of a request.

    redemption_id   of the redemption that came of it
    entitlement     a compact JWS, while the points are held; accepted already
    """

    request_id: UUID
    state: Literal["pending", "approved", "declined", "expired"]
    offer: str
    offer_version: int
    units: int
    reference: str | None
    created_at: datetime
    expires_at: datetime
    redemption_id: UUID | None
    entitlement: str | None


@router.post(
    "",
    status_code=201,
    summary="Ask for an approval 发起兑换请求",
    response_model=BankRequestMade,
    responses=openapi_problems(
        *BODY_PROBLEMS, *SIGNED_PROBLEMS, "bank-suspended", "offer-not-found", "bank-link-not-live"
    ),
    openapi_extra=openapi_body(model=BankRequestWanted),
)
async def make_request(request: Request) -> Response:
    """Signed. Ask somebody, whom we do not know yet, to redeem units of one of the bank's offers. No points move before
    that person approves; a request that got no answer is good for half an hour. A `subject` needs `links:write`."""
    platform = platform_of(request)
    caller = await admit(request, "redemptions:write")
    if media_type(request.headers) != JSON:
        raise Problem("unsupported-media-type", accepted=JSON)
    raw = await read_body(request, platform.settings.max_body_bytes)
    content = parse_json(raw)
    headers = await charge(request, caller)
    body = parsed(BankRequestWanted, content)
    if body.subject is not None:
        require_scope(caller, "links:write")
    call = await require_signed(request, raw, caller, money=False)
    if not call.bank.active:
        raise Problem("bank-suspended")
    offer = _offered(platform, call.bank.uri, body.offer)
    if not offer.min_units <= body.units <= offer.max_units:
        raise Problem("malformed-request", faults=[_out_of_range(offer, body.units)])
    code = code_text(platform.fresh.random(CODE_BYTES))  # of a request to somebody nobody gets it
    addressed_to = None if body.subject is None else await _linked(platform, call.bank, body.subject)
    wanted = NewRequest(
        request_id=platform.fresh.id(),
        bank_id=call.bank.bank_id,
        offer=offer.id,
        offer_version=offer.version,
        units=body.units,
        reference=body.reference,
        call_id=call.call_id,
        addressed_to=addressed_to,
    )
    async with platform.pool.acquire() as connection:
        expires_at = await create_request(connection, wanted, code, platform.settings.clock_offset)
    made = {
        "request_id": str(wanted.request_id),
        "approval_code": code if addressed_to is None else None,
        "offer": offer.id,
        "offer_version": offer.version,
        "units": body.units,
        "expires_at": expires_at,
    }
    return answered(201, made, headers | {"Cache-Control": "no-store"}, request)


async def _linked(platform: Platform, bank: RegisteredBank, subject: str) -> UUID:
    """Whom the bank's id stands for; an id that was never given is refused as one that is over."""
    async with platform.pool.acquire() as connection:
        found = await linked_to(connection, bank.bank_id, bank_subject_tag(platform.keyring, bank.uri, subject))
    if found is None:
        raise Problem("bank-link-not-live")
    return found


def _offered(platform: Platform, bank: str, offer_id: str) -> Offer:
    """The bank's own offer, on the board today. Whether it can be held is decided when it is."""
    entry = platform.offers.entry("offer", offer_id)
    if entry is None or not isinstance(entry.document, Offer) or entry.document.bank != bank:
        raise Problem("offer-not-found")
    if platform.offers.why_not(entry, platform.today()):
        raise Problem("offer-not-found")
    return entry.document


def _out_of_range(offer: Offer, units: int) -> Fault:
    if units < offer.min_units:
        return Fault("/units", "too-small", {"limit": str(offer.min_units)})
    return Fault("/units", "too-large", {"limit": str(offer.max_units)})


@router.get(
    "/{request_id}",
    summary="Read what became of a request 查询请求结果",
    response_model=BankRequestView,
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "bank-not-registered", "bank-request-not-found"),
)
async def read_made_request(request: Request, request_id: UUID) -> Response:
    """How a request of this bank stands. Once approved it has the entitlement: the bank may capture."""
    platform = platform_of(request)
    caller = await admit(request, "redemptions:read")
    headers = await charge(request, caller)
    bank = await calling_bank(request, caller)
    async with platform.pool.acquire() as connection:
        stored = await read_request(connection, bank.bank_id, request_id)
        if stored is None:
            raise Problem("bank-request-not-found")
        told = None
        if stored.participant_id is not None and stored.redemption_id is not None:
            told = await read_redemption(connection, stored.participant_id, stored.redemption_id)
    entitlement = entitle(platform, told.state) if told else None
    return answered(200, _view(platform, stored, entitlement), headers | {"Cache-Control": "no-store"}, request)


def _view(platform: Platform, stored: StoredRequest, entitlement: str | None) -> dict[str, Any]:
    return {
        "request_id": str(stored.request_id),
        "state": stored.state(platform.fresh.clock()),
        "offer": stored.offer,
        "offer_version": stored.offer_version,
        "units": stored.units,
        "reference": stored.reference,
        "created_at": stored.created_at,
        "expires_at": stored.expires_at,
        "redemption_id": stored.redemption_id and str(stored.redemption_id),
        "entitlement": entitlement,
    }
