"""Signed calls of banks and sources: HTTP message signatures (RFC 9421) over Content-Digest (RFC 9530), single-use and
kept."""

from api.signatures.calls import SignedCall, require_signed
from api.signatures.checking import Profile, Verified, bank_profile, check, required_components, source_profile
from api.signatures.reading import SOURCE_TAG, TAG, Message, SignatureFault
from api.signatures.signing import SigningKey, public_jwk, sign_call, sign_report

__all__ = [
    "SOURCE_TAG",
    "TAG",
    "Message",
    "Profile",
    "SignatureFault",
    "SignedCall",
    "SigningKey",
    "Verified",
    "bank_profile",
    "check",
    "public_jwk",
    "require_signed",
    "required_components",
    "sign_call",
    "sign_report",
    "source_profile",
]
