"""The bank engineer's sandbox: what is wrong with a signature, and what time it is here. Not in production."""

import base64
import hashlib
from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from api.body import read_body
from api.dependencies import CALL_PROBLEMS, admit, charge, platform_of
from api.platform import Platform
from api.problems import Problem, language_of, openapi_problems
from api.signatures.calls import calling_bank, message_of
from api.signatures.checking import EARLIEST, LONGEST_LIFE, bank_profile, check, computed_base
from api.signatures.reading import Message, SignatureFault, read_signature
from api.signatures.reasons import reason_text
from api.v1.manifests import answered
from service.banks.registry import RegisteredBank

router = APIRouter(prefix="/bank/sandbox", tags=["banks"])


class SignatureVerdict(BaseModel):
    """What became of this request's own signature.

    accepted        whether a real call with it would have been taken
    reason          why not, a code, and `detail` the same in words; null when it would
    required        what must be covered here, and `covered` what the signature says it covers
    missing         what of it is not covered
    signature_base  what should have been signed, byte for byte (RFC 9421, 2.5), of what the signature says it covers
    parameters      of the signature, as they were read
    digest_wanted   the Content-Digest of the body that arrived, and `digest_sent` what the header says
    known_keys      ids of this bank's keys
    platform_time   Unix seconds here; `created` may be so many seconds older or newer
    """

    accepted: bool
    reason: str | None
    detail: str | None
    required: list[str]
    covered: list[str]
    missing: list[str]
    signature_base: str | None
    parameters: dict[str, str | int]
    digest_wanted: str
    digest_sent: str | None
    known_keys: list[str]
    platform_time: int
    oldest_created_s: int
    newest_created_s: int


class ClockView(BaseModel):
    """The platform's clock.

    now      what the platform takes the time to be
    offset_seconds   so far it was moved when the platform was started
    movable  whether a call could move it: never, because every process has its own clock and what is on record would
             lie in the future once it went back
    how      how it is moved instead
    """

    now: datetime
    offset_seconds: int
    movable: Literal[False]
    how: str


@router.post(
    "/signature",
    summary="Explain a signature 诊断签名",
    response_model=SignatureVerdict,
    responses=openapi_problems(*CALL_PROBLEMS, "sandbox-only", "payload-too-large", "bank-not-registered"),
)
async def explain_signature(request: Request) -> Response:
    """Sign this very request, with whatever body, as a call that moves points: the answer says what is right and wrong
    with its signature, and what was to be signed. Nothing is kept, and no nonce is used up."""
    platform = _outside_production(request)
    caller = await admit(request, "redemptions:write")
    body = await read_body(request, platform.settings.max_body_bytes)
    headers = await charge(request, caller)
    bank = await calling_bank(request, caller)
    money = "idempotency-key" in request.headers
    return answered(200, _verdict(request, platform, bank, message_of(request, body), money), headers, request)


def _verdict(
    request: Request, platform: Platform, bank: RegisteredBank, message: Message, money: bool
) -> dict[str, Any]:
    now = platform.fresh.clock()
    profile = bank_profile(message, money=money, authorities=platform.settings.public_authorities)
    required = profile.required
    verdict: dict[str, Any] = {
        "accepted": True,
        "reason": None,
        "detail": None,
        "required": list(required),
        "covered": [],
        "missing": list(required),
        "signature_base": None,
        "parameters": {},
        "digest_wanted": f"sha-256=:{base64.b64encode(hashlib.sha256(message.body).digest()).decode('ascii')}:",
        "digest_sent": request.headers.get("content-digest"),
        "known_keys": list(bank.keys),
        "platform_time": int(now.timestamp()),
        "oldest_created_s": int(LONGEST_LIFE.total_seconds()),
        "newest_created_s": int(EARLIEST.total_seconds()),
    }
    try:
        claimed = read_signature(message)
        verdict["covered"] = list(claimed.components)
        verdict["missing"] = [name for name in required if name not in claimed.components]
        verdict["signature_base"] = computed_base(message, claimed)
        verdict["parameters"] = dict(claimed.parameters)
        check(message, bank.keys, now, profile)
    except SignatureFault as fault:
        detail = getattr(reason_text(fault), language_of(request))
        verdict |= {"accepted": False, "reason": fault.reason, "detail": detail}
    return verdict


@router.get(
    "/clock",
    summary="Read the clock 查询测试时钟",
    response_model=ClockView,
    responses=openapi_problems(*CALL_PROBLEMS, "sandbox-only"),
)
async def read_clock(request: Request) -> Response:
    """What time the platform takes it to be, and how a test platform is moved to another."""
    platform = _outside_production(request)
    caller = await admit(request, "redemptions:read")
    headers = await charge(request, caller)
    offset_s = int(platform.settings.clock_offset.total_seconds())
    how = {
        "zh": "以 TANPUHUI_CLOCK_OFFSET（秒）重新启动测试平台；时钟只可前移，生产模式拒绝此设置。",
        "en": "Start the test platform again with TANPUHUI_CLOCK_OFFSET, in seconds, a later time than before; "
        "production refuses the setting.",
    }[language_of(request)]
    content = {"now": platform.fresh.clock(), "offset_seconds": offset_s, "movable": False, "how": how}
    return answered(200, content, headers, request)


def _outside_production(request: Request) -> Platform:
    platform = platform_of(request)
    if platform.settings.mode == "production":
        raise Problem("sandbox-only")
    return platform
