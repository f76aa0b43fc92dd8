"""Ed25519 public keys as they come from outside. Pure."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_P = 2**255 - 19

# The y of the eight points whose order divides 8, beside 0, 1 and -1 the two of order 8, and the other texts of the
# same numbers: 0 and 1 with the field's prime added.
_SMALL_ORDER = frozenset(
    [
        0,
        1,
        _P - 1,
        _P,
        _P + 1,
        int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"),
        int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"),
    ]
)


def read_ed25519(raw: bytes) -> Ed25519PublicKey:
    """The key of these 32 bytes. Raises ValueError for another length, and for a point of small order: under such a key
    one signature that anybody can make fits many texts."""
    if int.from_bytes(raw, "little") & (1 << 255) - 1 in _SMALL_ORDER:
        raise ValueError("a point of small order is nobody's key")
    return Ed25519PublicKey.from_public_bytes(raw)
