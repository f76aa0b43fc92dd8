"""Require a proof of possession (RFC 9449) of whoever shows a token that is bound to a key."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.requests import Request

from api.auth.callers import Unauthenticated
from api.auth.dpop import Proof, ProofRefused, check_proof, origin_of
from api.auth.proofs import ProofMemory
from service.settings import Settings


class Possession:
    """Proofs at this platform: where it is asked, and which proofs were used.

    addresses    of the platform: scheme and authority
    trust_host   take the address that a request says it is for; in production only the platform's own is taken, or a
                 proof that was made for another server would be good here
    """

    def __init__(self, addresses: Iterable[str], memory: ProofMemory, *, trust_host: bool) -> None:
        self.memory = memory
        self._own = frozenset(origin for origin in map(origin_of, addresses) if origin is not None)
        self._trust_host = trust_host

    async def require(self, request: Request | None, access_token: str, jkt: str, now: float) -> None:
        """Raises Unauthenticated unless the request carries one proof, new, for it and its token, of the key `jkt`."""
        try:
            proof = None if request is None else self.check(request, now, access_token)
            if proof is None:
                raise ProofRefused("proof-missing")
            if proof.jkt != jkt:
                raise ProofRefused("proof-other-key")
            if not await self.memory.is_new(proof, now):
                raise ProofRefused("proof-replayed")
        except ProofRefused as refused:
            raise Unauthenticated(refused.reason) from None

    def check(self, request: Request, now: float, access_token: str | None) -> Proof | None:
        """The proof that a request carries, None when there is none. Raises ProofRefused; the caller remembers it."""
        proofs = request.headers.getlist("dpop")
        if not proofs:
            return None
        if len(proofs) > 1:
            raise ProofRefused("proof-missing")
        return check_proof(
            proofs[0],
            method=request.method,
            path=_path_of(request),
            origins=self._origins(request),
            now=now,
            access_token=access_token,
        )

    def _origins(self, request: Request) -> frozenset[str]:
        if not self._trust_host:
            return self._own
        here = origin_of(f"{request.scope['scheme']}://{request.headers.get('host', '')}")
        return self._own if here is None else self._own | {here}


def build_possession(settings: Settings, memory: ProofMemory) -> Possession:
    """What these settings describe."""
    public = (f"https://{authority}" for authority in settings.public_authorities)
    return Possession((settings.oauth_issuer, *public), memory, trust_host=settings.mode == "development")


def _path_of(request: Request) -> str:
    """The path as it came, not as it was decoded for the routes."""
    raw: bytes | None = request.scope.get("raw_path")
    return request.url.path if raw is None else urlsplit(raw.decode("latin-1")).path
