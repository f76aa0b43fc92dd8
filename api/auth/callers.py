"""Who calls, and what they may do: roles, scopes and ownership, decided here and nowhere else."""

import hashlib
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from api.problems import Problem, Text

Role = Literal["provider", "participant", "bank", "operator", "auditor"]

# A token carries these scopes of its role or fewer, never others: an issuer's mistake gives nobody more than its role.
ROLE_SCOPES: dict[str, frozenset[str]] = {
    "provider": frozenset({"activities:write", "events:read", "manifests:read", "settlements:read"}),
    "participant": frozenset({"balance:read", "events:read", "waivers:write", "redemptions:read", "redemptions:write"}),
    "bank": frozenset(
        {
            "redemptions:read",
            "redemptions:write",
            "statements:read",
            "statements:write",
            "webhooks:write",
            "events:read",
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
        }
    ),
    "auditor": frozenset({"balance:read", "audit:read", "events:read", "manifests:read", "settlements:read"}),
}

REALM = "tanpuhui"


class Unauthenticated(Problem):
    """No token, or one that is not accepted; `reason` names why, a key of REASONS."""

    def __init__(self, reason: str) -> None:
        why = REASONS[reason]
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
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent the request, from a verified token.

    source           the registered URI of a provider, else None
    participant_id   the participant a token of that role belongs to, else None
    client           names the caller to the rate limiter and in logs; holds no participant's id
    bank             the registered URI of a partner bank, else None
    """

    subject: str
    role: Role
    scopes: frozenset[str]
    source: str | None
    participant_id: UUID | None
    client: str
    bank: str | None = None


def require_scope(caller: Caller, scope: str) -> None:
    """Raises Forbidden unless the token carries the scope."""
    if scope not in caller.scopes:
        raise Forbidden(scope)


def require_participant(caller: Caller, participant_id: UUID) -> None:
    """Raises Forbidden unless this participant's records are the caller's to read.

    A participant reads their own; operators and auditors anyone's, where their scope lets them. The answer is the same
    whether the participant exists or not.
    """
    own = caller.participant_id == participant_id
    if not own and caller.role not in {"operator", "auditor"}:
        raise Forbidden


def client_name(role: Role, subject: str, registered: str | None) -> str:
    """The limiter's name of a caller: the tokens of a source or a bank share one limit; a participant's id is hashed,
    for the logs."""
    if role == "participant":
        return "participant:" + hashlib.sha256(subject.encode("utf-8")).hexdigest()[:16]
    return f"{role}:{registered or subject}"
