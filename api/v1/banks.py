"""Register partner banks 合作银行 and their keys, suspend and resume them, and show the key of our entitlements."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Caller
from api.dependencies import (
    BODY_PROBLEMS,
    CALL_PROBLEMS,
    admit,
    charge,
    openapi_body,
    parsed,
    platform_of,
    raw_body,
    read_json,
)
from api.entitlements import open_entitlement_key
from api.jwk_set import JwkSet
from api.operators import operator_code
from api.problems import Fault, Problem, openapi_problems
from api.signatures.calls import calling_bank
from api.two_people import PROPOSED, TWO_PEOPLE_PROBLEMS, require_two
from api.v1.activities import Name, Word
from api.v1.manifests import answered
from api.v1.source_keys import Ed25519Key, KeyMoment, P256Key
from api.v1.sources import SourceUri
from service.banks.registry import (
    Action,
    RegisteredBank,
    RegisteredBankKey,
    read_bank,
    read_banks,
    register_bank,
    register_bank_key,
    set_bank_state,
)
from service.jws import read_public_key
from service.participants import exclude_postings
from service.products.bank_listings import resume_offers_of, suspend_offers_of
from service.products.listing import Desk

router = APIRouter(tags=["banks"])


class BankRegistration(BaseModel):
    """A partner bank: an absolute URI that names it for good, and its names in both languages."""

    model_config = ConfigDict(strict=True, extra="forbid")

    uri: SourceUri
    title_zh: Word
    title_en: Word


class BankKeyRegistration(BaseModel):
    """A bank's public key as a JWK with a kid. Its signatures count from `valid_from` on and before `valid_to`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    bank: SourceUri
    key: Annotated[Ed25519Key | P256Key, Field(discriminator="kty")]
    valid_from: KeyMoment
    valid_to: KeyMoment | None = None


class BankSuspension(BaseModel):
    """Which bank, and why, as a code for the history."""

    model_config = ConfigDict(strict=True, extra="forbid")

    uri: SourceUri
    reason: Name


class BankResumption(BaseModel):
    """Which bank."""

    model_config = ConfigDict(strict=True, extra="forbid")

    uri: SourceUri


class BankKeyView(BaseModel):
    """A registered key: the required members of the JWK, and its kid."""

    key: dict[str, str]
    valid_from: datetime
    valid_to: datetime | None


class BankView(BaseModel):
    """A bank as it is registered now, with every key it has had, the newest first."""

    uri: str
    title_zh: str
    title_en: str
    programme: str
    state: Literal["active", "suspended"]
    keys: list[BankKeyView]


class BanksView(BaseModel):
    """Every registered bank, by URI."""

    banks: list[BankView]


class EntitlementKeysView(BaseModel):
    """A JWKS (RFC 7517) of the keys that sign entitlements."""

    keys: list[dict[str, str]]


@router.put(
    "/banks",
    summary="Register a bank 登记合作银行",
    response_model=BankView,
    responses=openapi_problems(*BODY_PROBLEMS),
    openapi_extra=openapi_body(model=BankRegistration),
)
async def put_bank(request: Request) -> Response:
    """Register a bank by its URI, or give it other titles. Every process knows within a second."""
    platform = platform_of(request)
    caller = await admit(request, "banks:write")
    content = await read_json(request)
    headers = await charge(request, caller)
    body = parsed(BankRegistration, content)
    settings, titles = platform.settings, (body.title_zh, body.title_en)
    async with platform.pool.acquire() as connection, connection.transaction():
        await register_bank(connection, body.uri, titles, settings.programme, settings.clock_offset)
    return await _read(request, body.uri, headers)


@router.put(
    "/banks/keys",
    summary="Register a bank's key 登记银行公钥",
    response_model=BankView,
    responses=PROPOSED
    | openapi_problems(
        *BODY_PROBLEMS, *TWO_PEOPLE_PROBLEMS, "bank-not-found", "bank-key-conflict", "posting-suspended"
    ),
    openapi_extra=openapi_body(model=BankKeyRegistration),
)
async def put_bank_key(request: Request) -> Response:
    """Register a public key of a bank: Ed25519 or P-256. Again with a `valid_to` ends it, or ends it earlier. The log
    has a leaf of each change. Needs two operators."""
    platform = platform_of(request)
    caller = await admit(request, "banks:write")
    content = await read_json(request)
    headers = await charge(request, caller)
    body = parsed(BankKeyRegistration, content)
    key = _registered(body)
    platform.watch.require()
    proposed = await require_two(request, caller, raw_body(request))
    if proposed is not None:
        return proposed
    async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        await register_bank_key(connection, body.bank, key, platform.fresh, platform.settings.clock_offset)
    return await _read(request, body.bank, headers)


def _registered(body: BankKeyRegistration) -> RegisteredBankKey:
    if body.valid_to is not None and body.valid_to <= body.valid_from:
        fault = Fault("/valid_to", "too-small", {"limit": body.valid_from.isoformat()})
        raise Problem("malformed-request", faults=[fault])
    try:
        text = read_public_key({name: value for name, value in body.key if isinstance(value, str)})
    except ValueError:
        raise Problem("malformed-request", faults=[Fault("/key", "invalid")]) from None
    ends = body.valid_to and body.valid_to.astimezone(UTC)
    return RegisteredBankKey(body.key.kid, text, body.valid_from.astimezone(UTC), ends)


@router.post(
    "/banks/suspend",
    summary="Suspend a bank 暂停银行",
    response_model=BankView,
    responses=openapi_problems(*BODY_PROBLEMS, "bank-not-found"),
    openapi_extra=openapi_body(model=BankSuspension),
)
async def suspend_bank(request: Request) -> Response:
    """No points are held for this bank from now on, and the log says of each of its offers that it is suspended. What
    is held stays: it can still be captured, voided or lapse."""
    caller = await admit(request, "banks:write")
    content = await read_json(request)
    headers = await charge(request, caller)
    body = parsed(BankSuspension, content)
    return await _set_state(request, caller, body.uri, "suspended", body.reason, headers)


@router.post(
    "/banks/resume",
    summary="Resume a bank 恢复银行",
    response_model=BankView,
    responses=PROPOSED | openapi_problems(*BODY_PROBLEMS, *TWO_PEOPLE_PROBLEMS, "bank-not-found"),
    openapi_extra=openapi_body(model=BankResumption),
)
async def resume_bank(request: Request) -> Response:
    """Points can be held for this bank again. The offers that went with it come back, but for one whose evidence or
    pool has ended meanwhile. Needs two operators."""
    caller = await admit(request, "banks:write")
    content = await read_json(request)
    headers = await charge(request, caller)
    wanted = parsed(BankResumption, content)
    proposed = await require_two(request, caller, raw_body(request))
    if proposed is not None:
        return proposed
    return await _set_state(request, caller, wanted.uri, "resumed", None, headers)


async def _set_state(
    request: Request, caller: Caller, uri: str, action: Action, reason: str | None, headers: dict[str, str]
) -> Response:
    platform, settings = platform_of(request), platform_of(request).settings
    desk = Desk(settings.programme, settings.allowed_statuses, platform.fresh, settings.clock_offset)
    move_offers = suspend_offers_of if action == "suspended" else resume_offers_of
    async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        await exclude_postings(connection)  # whoever was answered before is held; nobody is after
        await set_bank_state(connection, uri, action, reason, settings.clock_offset)
        await move_offers(connection, uri, operator_code(platform, caller), desk)
    return await _read(request, uri, headers)


@router.get(
    "/banks",
    summary="List banks 合作银行列表",
    response_model=BanksView,
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "bank-not-found"),
)
async def list_banks(request: Request, uri: Annotated[str | None, Query(max_length=500)] = None) -> Response:
    """Every bank with its keys, or the one of a URI."""
    caller = await admit(request, "banks:write")
    headers = await charge(request, caller)
    async with platform_of(request).pool.acquire() as connection:
        banks = await read_banks(connection, None if uri is None else [uri])
    if uri is not None and not banks:
        raise Problem("bank-not-found")
    return answered(200, {"banks": [bank_view(bank) for bank in banks]}, headers, request)


@router.get(
    "/bank",
    summary="Read one's own registration 查询本银行",
    response_model=BankView,
    responses=openapi_problems(*CALL_PROBLEMS, "bank-not-registered"),
)
async def read_own_bank(request: Request) -> Response:
    """What the bank of this token is registered as, and its keys."""
    caller = await admit(request, "redemptions:write")
    headers = await charge(request, caller)
    return answered(200, bank_view(await calling_bank(request, caller)), headers, request)


@router.get(
    "/bank/keys",
    summary="Read the entitlements' keys 兑换凭证公钥",
    response_model=EntitlementKeysView,
    response_class=JwkSet,
    responses={200: {"model": EntitlementKeysView}, **openapi_problems("temporarily-unavailable")},
)
async def read_entitlement_keys(request: Request) -> Response:
    """The public keys under which a bank verifies entitlements. Open to anyone; fetch them again for an unknown kid."""
    key = open_entitlement_key(platform_of(request).settings)
    headers = {"Cache-Control": "public, max-age=300"}
    return JwkSet({"keys": [each.jwk for each in (key, *key.former)]}, 200, headers)


async def _read(request: Request, uri: str, headers: dict[str, str]) -> Response:
    platform = platform_of(request)
    platform.banks.pop(uri, None)
    async with platform.pool.acquire() as connection:
        bank = await read_bank(connection, uri)
    assert bank is not None  # it was written a line ago, and is never deleted
    return answered(200, bank_view(bank), headers, request)


def bank_view(bank: RegisteredBank) -> dict[str, Any]:
    """A BankView."""
    return {
        "uri": bank.uri,
        "title_zh": bank.title_zh,
        "title_en": bank.title_en,
        "programme": bank.programme,
        "state": bank.state,
        "keys": [
            {
                "key": {**orjson.loads(key.public_key), "kid": key.key_id},
                "valid_from": key.valid_from,
                "valid_to": key.valid_to,
            }
            for key in bank.keys.values()
        ],
    }
