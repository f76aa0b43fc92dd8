"""Who calls: bearer tokens verified into a Caller, and the checks of scope and ownership."""

from api.auth.callers import (
    ROLE_SCOPES,
    Caller,
    Forbidden,
    Role,
    Unauthenticated,
    require_participant,
    require_scope,
)
from api.auth.development import DevelopmentIssuer
from api.auth.keys import FileKeys, KeySource, UrlKeys
from api.auth.tokens import Authenticator, build_authenticator

__all__ = [
    "ROLE_SCOPES",
    "Authenticator",
    "Caller",
    "DevelopmentIssuer",
    "FileKeys",
    "Forbidden",
    "KeySource",
    "Role",
    "Unauthenticated",
    "UrlKeys",
    "build_authenticator",
    "require_participant",
    "require_scope",
]
