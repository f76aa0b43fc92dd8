"""Operators by the codes under which their steps are kept and told."""

from api.auth import Caller
from api.platform import Platform


def operator_code(platform: Platform, caller: Caller) -> str:
    """A keyed tag, for a token's subject may be a name."""
    return f"operator-{platform.keyring.tag('subject', b'operator' + bytes(1) + caller.subject.encode()).hex()[:16]}"
