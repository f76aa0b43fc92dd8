"""Ed25519 keys under which anybody could sign are nobody's."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.ed25519 import read_ed25519

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]


def add(one: Point, other: Point) -> Point:
    """The sum of two points of the curve -x² + y² = 1 + d·x²·y² (RFC 8032, 5.1.4)."""
    (x, y), (u, v) = one, other
    both = D * x * u * y * v % P
    return (x * v + u * y) * pow(1 + both, -1, P) % P, (y * v + x * u) * pow(1 - both, -1, P) % P


def decoded(raw: bytes) -> Point:
    """The point of these 32 bytes; y is taken modulo the field's prime, as verifiers do."""
    number = int.from_bytes(raw, "little")
    sign, y = number >> 255, number % 2**255 % P
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert (x * x - square) % P == 0, "not on the curve"
    return (x if x % 2 == sign else -x % P), y


def encoded(y: int, sign: int) -> bytes:
    return (y | sign << 255).to_bytes(32, "little")


def times_eight(point: Point) -> Point:
    for _ in range(3):
        point = add(point, point)
    return point


EIGHT = decoded(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"))


def small_order() -> list[bytes]:
    """Every text of every point whose order divides 8: the multiples of one of order 8, each with either sign bit, and
    once more with the prime added to y where it still fits."""
    points, point = set(), (0, 1)
    for _ in range(8):
        points.add(point)
        point = add(point, EIGHT)
    assert point == (0, 1)
    assert len(points) == 8
    numbers = {y for _, y in points}
    return sorted(encoded(y, sign) for y in numbers | {y + P for y in numbers if y + P < 2**255} for sign in (0, 1))


def test_there_are_fourteen_texts_of_small_order_and_all_are_refused() -> None:
    texts = small_order()
    assert len(texts) == 14
    for text in texts:
        assert times_eight(decoded(text)) == (0, 1)
        with pytest.raises(ValueError, match="small order"):
            read_ed25519(text)


def test_under_such_a_key_one_signature_fits_every_text() -> None:
    identity = bytes([1, *bytes(31)])
    forged = identity + bytes(32)
    for text in (b"approve this", b"and that"):
        Ed25519PublicKey.from_public_bytes(identity).verify(forged, text)
    with pytest.raises(ValueError, match="small order"):
        read_ed25519(identity)


@given(st.binary(min_size=32, max_size=32))
def test_every_key_that_somebody_made_is_read(seed: bytes) -> None:
    raw = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    assert read_ed25519(raw).public_bytes_raw() == raw


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_is_thirty_two_bytes(length: int) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of whichever reason: it is no key
        read_ed25519(b"\x02" * length)
