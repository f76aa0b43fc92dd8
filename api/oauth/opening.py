"""What a process needs to issue tokens of the platform's own, and to judge them."""

from dataclasses import dataclass

from api.auth.own import OwnTokens
from api.auth.possession import Possession, build_possession
from api.auth.proofs import ProofMemory
from service.clients.standing import Standing
from service.clients.token_keys import TokenKeys, create_token_keys
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class Access:
    """The token keys, what is revoked, and the proofs that were used."""

    keys: TokenKeys
    standing: Standing
    own: OwnTokens
    possession: Possession


def open_access(settings: Settings) -> Access:
    """As these settings say; in development the token keys are made on first use. Raises TokenKeysUnusable."""
    if settings.mode == "development":
        create_token_keys(settings.token_key_file)
    keys, standing = TokenKeys(settings.token_key_file), Standing()
    memory = ProofMemory(
        settings.redis_url, timeout=settings.redis_timeout_ms / 1000, retry=settings.redis_retry_ms / 1000
    )
    return Access(keys, standing, OwnTokens(keys, standing, settings.oauth_issuer), build_possession(settings, memory))
