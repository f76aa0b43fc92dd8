"""Signed calls of banks: HTTP message signatures (RFC 9421) over Content-Digest (RFC 9530), single-use and kept."""

from api.signatures.calls import SignedCall, require_signed
from api.signatures.checking import Verified, check, required_components
from api.signatures.reading import TAG, Message, SignatureFault
from api.signatures.signing import SigningKey, public_jwk, sign_call

__all__ = [
    "TAG",
    "Message",
    "SignatureFault",
    "SignedCall",
    "SigningKey",
    "Verified",
    "check",
    "public_jwk",
    "require_signed",
    "required_components",
    "sign_call",
]
