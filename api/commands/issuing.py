"""Tokens for development, for the commands that call the platform."""

from api.auth import DevelopmentIssuer
from api.commands.environment import fail
from service.settings import DEVELOPMENT_ISSUER, Settings


def development_issuer(settings: Settings) -> DevelopmentIssuer:
    """The issuer of tokens for development; ends the command where those are not accepted."""
    if settings.mode == "production" or settings.token_issuer != DEVELOPMENT_ISSUER:
        fail("生产模式不签发开发令牌。", "tokens for development are not for this platform: get one from your issuer.")
    return DevelopmentIssuer(settings.data_dir, audience=settings.token_audience)
