"""Entitlements at the edge: the platform's key, what is issued to a bank, and what a bank presents."""

from collections.abc import Mapping
from uuid import UUID

from api.platform import Platform
from api.problems import Problem, Text
from service.banks.entitlements import (
    Entitlement,
    EntitlementKey,
    EntitlementRefused,
    create_entitlement_key,
    load_entitlement_key,
    sign_entitlement,
    verify_entitlement,
)
from service.redemption.commands import RedemptionState
from service.settings import Settings

_WHY: Mapping[str, Text] = {
    "malformed": Text("不是本平台签发的凭证", "it is none of this platform's"),
    "unknown-key": Text("签名密钥 (kid) 不是本平台的", "its key (kid) is not this platform's"),
    "signature": Text("签名不正确", "its signature is not right"),
    "issuer": Text("签发者 (iss) 不符", "its issuer (iss) is another"),
    "bank": Text("不是签发给本银行的 (aud)", "it was issued to another bank (aud)"),
    "redemption": Text("不属于此笔兑换 (jti)", "it belongs to another redemption (jti)"),
    "expired": Text("已过期", "it has expired"),
}


def open_entitlement_key(settings: Settings) -> EntitlementKey:
    """The platform's key; in development it is made on first use. Raises EntitlementKeyUnusable."""
    path = settings.entitlement_key_file
    if settings.mode == "development" and not path.exists():
        create_entitlement_key(path)
    return load_entitlement_key(path)


def issue_entitlement(platform: Platform, entitlement: Entitlement) -> str:
    """What a bank is given of a redemption: a compact JWS."""
    key = open_entitlement_key(platform.settings)
    return sign_entitlement(key, platform.settings.log_origin, entitlement)


def entitle(platform: Platform, state: RedemptionState) -> str | None:
    """The entitlement to what is still held of a redemption; None when nothing is."""
    now = platform.fresh.clock()
    if state.state != "held" or state.is_dead(now):
        return None
    points, fen, _ = state.share(state.units_left)
    entitlement = Entitlement(
        bank=state.bank,
        redemption_id=state.redemption_id,
        offer=state.offer,
        offer_version=state.offer_version,
        units=state.units_left,
        points=points,
        value_fen=fen,
        issued_at=now,
        expires_at=state.expires_at,
    )
    return issue_entitlement(platform, entitlement)


def require_entitlement(platform: Platform, text: str, bank: str, redemption_id: UUID | None = None) -> Entitlement:
    """What a bank presents, if it was issued to it, for this redemption if one is named, and has not expired.

    Raises Problem entitlement-refused.
    """
    key, issuer = open_entitlement_key(platform.settings), platform.settings.log_origin
    try:
        entitlement = verify_entitlement(key, issuer, bank, text, platform.fresh.clock())
        if redemption_id is not None and entitlement.redemption_id != redemption_id:
            raise EntitlementRefused("redemption")
    except EntitlementRefused as refused:
        why = _WHY[refused.reason]
        raise Problem("entitlement-refused", reason=refused.reason, why_zh=why.zh, why_en=why.en) from None
    return entitlement
