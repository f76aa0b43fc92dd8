"""Who calls, and what they may do: roles, scopes and ownership, decided here and nowhere else."""

import hashlib
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from api.problems import Problem, Text

Role = Literal["provider", "participant", "bank", "operator", "auditor", "funder", "assurer", "authority"]

# A token carries these scopes of its role or fewer, never others: an issuer's mistake gives nobody more than its role.
ROLE_SCOPES: dict[str, frozenset[str]] = {
    "provider": frozenset({"activities:write", "events:read", "manifests:read", "settlements:read"}),
    "participant": frozenset(
        {
            "balance:read",
            "events:read",
            "waivers:write",
            "redemptions:read",
            "redemptions:write",
            "profile:read",
            "profile:write",
        }
    ),
    "bank": frozenset(
        {
            "redemptions:read",
            "redemptions:write",
            "statements:read",
            "statements:write",
            "webhooks:write",
            "events:read",
            "links:write",
        }
    ),
    "operator": frozenset(
        {
            "participants:enrol",
            "sources:register",
            "registers:write",
            "waivers:write",
            "credits:reverse",
            "balance:read",
            "events:read",
            "rules:approve",
            "manifests:read",
            "settlements:read",
            "banks:write",
            "products:write",
            "products:approve",
            "pools:write",
            "redemptions:read",
            "statements:read",
            "clients:write",
            "limits:write",
            "reviews:read",
            "reviews:decide",
            "privacy:read",
        }
    ),
    "auditor": frozenset({"balance:read", "audit:read", "events:read", "manifests:read", "settlements:read"}),
    "funder": frozenset({"pools:read"}),
    "assurer": frozenset({"audit:read", "manifests:read", "settlements:read"}),
    # The competent authority reads everything but who anybody is.
    "authority": frozenset(
        {
            "balance:read",
            "events:read",
            "audit:read",
            "manifests:read",
            "settlements:read",
            "redemptions:read",
            "statements:read",
            "reviews:read",
        }
    ),
}

REALM = "tanpuhui"


MACHINE_ROLES = frozenset({"provider", "bank", "funder"})
"""Their tokens are taken from whoever has the key they are bound to, where `require_sender_constrained` is set."""


class Unauthenticated(Problem):
    """No token, or one that is not accepted; `reason` names why, a key of REASONS."""

    def __init__(self, reason: str) -> None:
        why = REASONS[reason]
        if reason in _OF_PROOFS:  # RFC 9449, 7.1
            error = "invalid_dpop_proof" if reason.startswith("proof-") else "invalid_token"
            challenge = f'DPoP realm="{REALM}", error="{error}", error_description="{why.en}", algs="EdDSA ES256"'
        else:
            challenge = f'Bearer realm="{REALM}"'
            if reason != "no-token":
                challenge += f', error="invalid_token", error_description="{why.en}"'
        headers = {"WWW-Authenticate": challenge}
        super().__init__("unauthenticated", headers=headers, reason=reason, why_zh=why.zh, why_en=why.en)


class Forbidden(Problem):
    """The token is good but does not allow this: a scope is missing, or it is somebody else's."""

    def __init__(self, missing_scope: str | None = None) -> None:
        if missing_scope is None:
            super().__init__(
                "forbidden", reason="not-yours", why_zh="不属于该令牌的主体", why_en="it is not the token's own"
            )
            return
        super().__init__(
            "forbidden",
            headers={
                "WWW-Authenticate": f'Bearer realm="{REALM}", error="insufficient_scope", scope="{missing_scope}"'
            },
            members={"missing_scope": missing_scope},
            reason="missing-scope",
            why_zh=f"缺少权限 {missing_scope}",
            why_en=f"the scope {missing_scope} is missing",
        )


# Said to the caller and in the challenge, so ASCII in English and without quotes.
REASONS: dict[str, Text] = {
    "no-token": Text("请求没有携带 Bearer 令牌", "the request carries no Bearer token"),
    "malformed": Text("不是有效的 JWT", "it is not a JWT"),
    "too-large": Text("令牌过长", "it is too long"),
    "unknown-key": Text("签名密钥 (kid) 未知", "its key (kid) is not known"),
    "wrong-algorithm": Text("算法与密钥类型不符", "its algorithm is not the one of its key"),
    "bad-signature": Text("签名不正确", "its signature is not right"),
    "expired": Text("已过期", "it has expired"),
    "not-yet-valid": Text("尚未生效", "it is not valid yet"),
    "wrong-issuer": Text("签发者 (iss) 不符", "its issuer (iss) is another"),
    "wrong-audience": Text("受众 (aud) 不符", "its audience (aud) is another"),
    "missing-claim": Text("缺少必需的声明", "a required claim is missing"),
    "bad-claim": Text("声明的形式不正确", "a claim has the wrong form"),
    "too-long-lived": Text("有效期超过 24 小时", "it lives longer than 24 hours"),
    "unknown-role": Text("角色 (role) 未知", "its role is not known"),
    "scope-beyond-role": Text("权限超出其角色", "it carries a scope that its role does not have"),
    "account-closed": Text("该账户已申请删除", "its account is being erased, or was"),
    "revoked": Text("已吊销，或其客户端已暂停", "it was revoked, or its client is suspended"),
    "token-bound": Text("该令牌绑定密钥，须以 DPoP 出示", "it is bound to a key and has to be shown with DPoP"),
    "token-unbound": Text("该令牌未绑定密钥", "it is not bound to a key"),
    "proof-missing": Text("须携带恰好一个 DPoP 请求头", "there is not exactly one DPoP header"),
    "proof-malformed": Text("DPoP 证明的形式不正确", "the DPoP proof has the wrong form"),
    "proof-key": Text("DPoP 证明的密钥不可用", "the key of the DPoP proof cannot be used"),
    "proof-signature": Text("DPoP 证明的签名不正确", "the signature of the DPoP proof is not right"),
    "proof-method": Text("DPoP 证明的方法 (htm) 不符", "the DPoP proof is for another method (htm)"),
    "proof-address": Text("DPoP 证明的地址 (htu) 不符", "the DPoP proof is for another address (htu)"),
    "proof-time": Text("DPoP 证明过旧或超前 (iat)", "the DPoP proof is too old or ahead of time (iat)"),
    "proof-token": Text("DPoP 证明对应另一令牌 (ath)", "the DPoP proof is for another token (ath)"),
    "proof-other-key": Text("DPoP 证明不是令牌所绑定的密钥", "the DPoP proof is of another key than the token"),
    "proof-replayed": Text("DPoP 证明已使用过 (jti)", "the DPoP proof was used before (jti)"),
}
_OF_PROOFS = frozenset(reason for reason in REASONS if reason.startswith(("proof-", "token-")))


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent the request, from a verified token.

    source           the registered URI of a provider, else None
    participant_id   the participant a token of that role belongs to, else None
    client           names the caller to the rate limiter and in logs; holds no participant's id
    bank             the registered URI of a partner bank, else None
    funder           the URI of a funder of pools, else None
    client_id        the registered client that a token of the platform's own was issued to, else None
    jkt              thumbprint of the key that the token is bound to (RFC 9449), None for a bearer token
    """

    subject: str
    role: Role
    scopes: frozenset[str]
    source: str | None
    participant_id: UUID | None
    client: str
    bank: str | None = None
    funder: str | None = None
    client_id: str | None = None
    jkt: str | None = None


def require_scope(caller: Caller, scope: str) -> None:
    """Raises Forbidden unless the token carries the scope."""
    if scope not in caller.scopes:
        raise Forbidden(scope)


def require_participant(caller: Caller, participant_id: UUID) -> None:
    """Raises Forbidden unless this participant's records are the caller's to read.

    A participant reads their own; operators, auditors and the competent authority anyone's, where their scope lets
    them. The answer is the same whether the participant exists or not.
    """
    own = caller.participant_id == participant_id
    if not own and caller.role not in {"operator", "auditor", "authority"}:
        raise Forbidden


def require_person(caller: Caller) -> UUID:
    """The participant whose own token this is: nobody decides or asks for them. Raises Forbidden for any other
    token."""
    if caller.participant_id is None:
        raise Forbidden
    return caller.participant_id


def client_name(role: Role, subject: str, registered: str | None) -> str:
    """The limiter's name of a caller: the tokens of a source, a bank or a funder share one limit; a participant's id is
    hashed, for the logs."""
    if role == "participant":
        return "participant:" + hashlib.sha256(subject.encode("utf-8")).hexdigest()[:16]
    return f"{role}:{registered or subject}"
