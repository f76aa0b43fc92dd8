"""Verify tokens (JWT, RFC 7519): asymmetric signatures only; what was verified is remembered shortly.

Two issuers are believed: the one that the deployment configures, and the platform itself. Which of them a token is of
its key says, and nothing else. A token that is bound to a key (RFC 9449) is taken with a proof of possession alone.
"""

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, cast
from uuid import UUID

import jwt
from starlette.requests import Request

from api.auth.callers import MACHINE_ROLES, ROLE_SCOPES, Caller, Role, Unauthenticated, client_name
from api.auth.development import DevelopmentIssuer
from api.auth.keys import FileKeys, KeysMalformed, KeySource, KeysUnavailable, UrlKeys, VerifyingKey
from api.auth.own import OwnTokens
from api.auth.possession import Possession
from api.problems import Problem
from service.settings import DEVELOPMENT_ISSUER, Settings, UnsafeSettings

LEEWAY = 30  # seconds that clocks may differ
LONGEST_LIFE = 24 * 3600  # seconds; a token cannot be called back, so it is short-lived
LONGEST_TOKEN = 4096  # characters
REMEMBERED_FOR = 60  # seconds: how long a verified token may outlive the removal of its key at most
MOST_REMEMBERED = 20_000  # tokens, about 1 kB each

_REQUIRED = ["exp", "iat", "iss", "aud", "sub"]
_SUBJECT = re.compile(r"[^\x00-\x20\x7f]{1,200}")
_REGISTERED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[\x21-\x7e]{1,250}")
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")

_REASON_OF: tuple[tuple[type[jwt.PyJWTError], str], ...] = (  # subclasses before their parents
    (jwt.ExpiredSignatureError, "expired"),
    (jwt.ImmatureSignatureError, "not-yet-valid"),
    (jwt.InvalidIssuerError, "wrong-issuer"),
    (jwt.InvalidAudienceError, "wrong-audience"),
    (jwt.MissingRequiredClaimError, "missing-claim"),
    (jwt.InvalidIssuedAtError, "bad-claim"),
    (jwt.exceptions.InvalidSubjectError, "bad-claim"),
    (jwt.InvalidSignatureError, "bad-signature"),
    (jwt.InvalidAlgorithmError, "wrong-algorithm"),
    (jwt.PyJWTError, "malformed"),
)


class Authenticator:
    """Turns an Authorization header into a Caller.

    A token verified before costs one hash and one look-up. It is remembered for a minute at most, never past its end,
    and forgotten as soon as the keys change or anything is revoked.

    own             the platform's own tokens; None where it issues none
    possession      what proofs are checked against; None where no proof is taken
    require_bound   refuse tokens of machines that are bound to no key
    """

    def __init__(
        self,
        keys: KeySource,
        *,
        issuer: str,
        audience: str,
        clock: Callable[[], float] = time.time,
        own: OwnTokens | None = None,
        possession: Possession | None = None,
        require_bound: bool = False,
    ) -> None:
        self.keys = keys
        self.own = own
        self.possession = possession
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._require_bound = require_bound
        self._version = self._versions()
        self._remembered: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()

    async def authenticate(self, authorization: str | None, request: Request | None = None) -> Caller:
        """The caller of a request. Raises Unauthenticated, or Problem temporarily-unavailable (no keys)."""
        if authorization is None:
            raise Unauthenticated("no-token")
        bound = authorization[:5].lower() == "dpop "
        if not bound and authorization[:7].lower() != "bearer ":
            raise Unauthenticated("no-token")
        if len(authorization) > LONGEST_TOKEN:
            raise Unauthenticated("too-large")
        token = authorization[5 if bound else 7 :].strip()
        now = self._clock()
        caller = await self._known(authorization, token, now, bound=bound)
        if caller.jkt is not None:
            if self.possession is None:
                raise Unauthenticated("proof-missing")
            await self.possession.require(request, token, caller.jkt, now)
        return caller

    async def close(self) -> None:
        """Release what the keys hold open."""
        if isinstance(self.keys, UrlKeys):
            await self.keys.close()

    async def _known(self, authorization: str, token: str, now: float, *, bound: bool) -> Caller:
        """The caller that a token is of, shown in the way it has to be."""
        self.keys.refresh_if_due()
        if self.own is not None:
            self.own.refresh_if_due()
        versions = self._versions()
        if versions != self._version:
            self._version = versions
            self._remembered.clear()
        digest = hashlib.sha256(authorization.encode("utf-8", "surrogateescape")).digest()
        remembered = self._remembered.get(digest)
        if remembered is not None and now < remembered[0]:
            return remembered[1]
        caller, expires = await self._verify(token)
        if caller.jkt is None and (bound or self._has_to_be_bound(caller)):
            raise Unauthenticated("token-unbound")
        if caller.jkt is not None and not bound:
            raise Unauthenticated("token-bound")
        self._remember(digest, min(expires, now + REMEMBERED_FOR), caller)
        return caller

    def _versions(self) -> tuple[int, int]:
        return self.keys.version, 0 if self.own is None else self.own.version

    def _has_to_be_bound(self, caller: Caller) -> bool:
        machine = caller.role in MACHINE_ROLES or (caller.client_id is not None and caller.role != "participant")
        return machine and self._require_bound

    async def _verify(self, token: str) -> tuple[Caller, float]:
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError):
            raise Unauthenticated("malformed") from None
        kid = header.get("kid")
        version = self._versions()
        own = self.own.find(kid) if self.own is not None and isinstance(kid, str) else None
        key = own or (await self._find(kid) if isinstance(kid, str) else None)
        if key is None:
            raise Unauthenticated("unknown-key")
        if header.get("alg") != key.algorithm:
            raise Unauthenticated("wrong-algorithm")
        if "crit" in header:  # an extension we must understand and do not
            raise Unauthenticated("malformed")
        if own is not None and self.own is not None:
            self.own.require_type(header)
            claims = self._claims(token, key, self.own.issuer)
            self.own.require_standing(claims)
        else:
            claims = self._claims(token, key, self._issuer)
            claims.pop("client_id", None)  # another issuer's clients are none of ours
        if self._versions() != version:
            self._remembered.clear()
            self._version = self._versions()
        return caller_of(claims), float(claims["exp"])

    async def _find(self, kid: str) -> VerifyingKey | None:
        try:
            return await self.keys.find(kid)
        except KeysUnavailable:
            raise Problem("temporarily-unavailable", headers={"Retry-After": "5"}) from None

    def _claims(self, token: str, key: VerifyingKey, issuer: str) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                issuer=issuer,
                audience=self._audience,
                leeway=LEEWAY,
                options={"require": _REQUIRED},
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            reason = next((reason for kind, reason in _REASON_OF if isinstance(error, kind)), "malformed")
            raise Unauthenticated(reason) from None

    def _remember(self, digest: bytes, until: float, caller: Caller) -> None:
        self._remembered[digest] = (until, caller)
        self._remembered.move_to_end(digest)
        if len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)  # the oldest verification


def caller_of(claims: dict[str, Any]) -> Caller:
    """The caller a token's verified claims describe. Raises Unauthenticated for claims that do not fit together."""
    issued, expires = claims["iat"], claims["exp"]
    if type(issued) not in {int, float} or type(expires) not in {int, float}:
        _bad_claim()
    if expires - issued > LONGEST_LIFE:
        raise Unauthenticated("too-long-lived")
    subject, scope = claims["sub"], claims.get("scope", "")
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject) or not isinstance(scope, str):
        _bad_claim()
    role = _role(claims.get("role"))
    scopes = frozenset(scope.split())
    if not scopes <= ROLE_SCOPES[role]:
        raise Unauthenticated("scope-beyond-role")
    source = _registered(claims.get("source"), wanted=role == "provider")
    bank = _registered(claims.get("bank"), wanted=role == "bank")
    funder = _registered(claims.get("funder"), wanted=role == "funder")
    return Caller(
        subject,
        role,
        scopes,
        source,
        _uuid(subject) if role == "participant" else None,
        client_name(role, subject, source or bank or funder),
        bank,
        funder,
        claims.get("client_id"),
        _bound_to(claims.get("cnf")),
    )


def _bound_to(confirmation: object) -> str | None:
    """The thumbprint of the key that a token is bound to (RFC 7800, RFC 9449). Another way to bind it is one that we
    could not check, and would make a bearer token of it."""
    if confirmation is None:
        return None
    if not isinstance(confirmation, dict) or confirmation.keys() != {"jkt"}:
        _bad_claim()
    jkt = confirmation["jkt"]
    if not isinstance(jkt, str) or not _THUMBPRINT.fullmatch(jkt):
        _bad_claim()
    return jkt


def _registered(uri: object, *, wanted: bool) -> str | None:
    """The URI under which a source or a bank is registered: its own role's tokens name one, no others do."""
    if not wanted and uri is None:
        return None
    if not wanted or not isinstance(uri, str) or not _REGISTERED.fullmatch(uri):
        _bad_claim()
    return uri


def _role(name: object) -> Role:
    if not isinstance(name, str) or name not in ROLE_SCOPES:
        raise Unauthenticated("unknown-role")
    return cast(Role, name)


def _uuid(subject: str) -> UUID:
    try:
        value = UUID(subject)
    except ValueError:
        _bad_claim()
    if str(value) != subject:  # one text for one participant
        _bad_claim()
    return value


def _bad_claim() -> NoReturn:
    raise Unauthenticated("bad-claim")


def build_authenticator(
    settings: Settings, own: OwnTokens | None = None, possession: Possession | None = None
) -> Authenticator:
    """The authenticator these settings describe; in development its own issuer is made when no JWKS is named.

    Raises UnsafeSettings for the development issuer in production mode, ValueError for keys that cannot be used.
    """
    if settings.mode == "production" and (settings.token_issuer == DEVELOPMENT_ISSUER or settings.jwks is None):
        raise UnsafeSettings(
            ["the development issuer is not for production: set TANPUHUI_TOKEN_ISSUER and TANPUHUI_JWKS"]
        )
    return Authenticator(
        _keys(settings),
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        own=own,
        possession=possession,
        require_bound=settings.require_sender_constrained,
    )


def _keys(settings: Settings) -> KeySource:
    if settings.jwks is not None and settings.jwks.startswith(("https://", "http://")):
        return UrlKeys(settings.jwks)
    try:
        if settings.jwks is None:
            return FileKeys(DevelopmentIssuer(settings.data_dir).jwks_path)
        return FileKeys(Path(settings.jwks))
    except (KeysMalformed, KeysUnavailable) as error:
        raise ValueError(str(error)) from error
