"""Where a request comes from: whom X-Forwarded-For is believed of, and what stands for an address."""

from datetime import date
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.rate_limit.addresses import address_name, host_of
from service.keyring import Keyring

KEYRING = Keyring(1, {1: bytes(32)})
PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
DAY = date(2026, 5, 1)


def scope(host: str | None, *forwarded: str) -> dict[str, Any]:
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    return {"client": (host, 1) if host else None, "headers": headers}


@pytest.mark.parametrize(
    ("host", "forwarded", "found"),
    [
        ("192.0.2.1", (), "192.0.2.1"),
        ("192.0.2.1", ("198.51.100.7",), "192.0.2.1"),  # whoever calls by themselves says nothing
        ("10.0.0.1", ("198.51.100.7",), "198.51.100.7"),
        ("10.0.0.1", ("203.0.113.9, 198.51.100.7",), "198.51.100.7"),  # what the client wrote is before it
        ("10.0.0.1", ("203.0.113.9", "198.51.100.7, 10.0.0.2"), "198.51.100.7"),
        ("10.0.0.1", ("nonsense",), "10.0.0.1"),
        ("10.0.0.1", ("203.0.113.9, nonsense",), "10.0.0.1"),
        ("10.0.0.1", ("",), "10.0.0.1"),
        ("10.0.0.1", (), "10.0.0.1"),
        ("::ffff:10.0.0.1", ("198.51.100.7",), "198.51.100.7"),
        (None, ("198.51.100.7",), "198.51.100.7"),  # a socket of this machine
    ],
)
def test_the_last_hop_that_is_not_ours_is_who_calls(host: str | None, forwarded: tuple[str, ...], found: str) -> None:
    assert host_of(scope(host, *forwarded), PROXIES) == found


def test_without_proxies_of_ours_nothing_is_believed() -> None:
    assert host_of(scope("10.0.0.1", "198.51.100.7"), ()) == "10.0.0.1"
    assert host_of(scope(None), ()) == ""


@given(st.lists(st.ip_addresses().map(str) | st.text(st.characters(max_codepoint=255), max_size=20), max_size=40))
def test_no_forged_header_chooses_the_address(forged: list[str]) -> None:
    """Whatever a client sends before the proxy's own word, it is the address that the proxy saw."""
    assert host_of(scope("10.0.0.1", ",".join([*forged, "198.51.100.7"])), PROXIES) == "198.51.100.7"


def test_an_address_is_a_tag_of_its_day() -> None:
    name = address_name(KEYRING, "192.0.2.1", DAY)
    assert name.startswith("address:")
    assert "192" not in name.removeprefix("address:")
    assert name != address_name(KEYRING, "192.0.2.2", DAY)
    assert name != address_name(KEYRING, "192.0.2.1", date(2026, 5, 2))
    assert name != address_name(Keyring(1, {1: b"1" * 32}), "192.0.2.1", DAY)
    assert name == address_name(KEYRING, "::ffff:192.0.2.1", DAY)


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_a_household_of_ipv6_is_one_address(address: Any, suffix: int) -> None:
    if address.ipv4_mapped is None:
        inside = type(address)(int(address) >> 64 << 64 | suffix)
        if inside.ipv4_mapped is None:
            assert address_name(KEYRING, str(address), DAY) == address_name(KEYRING, str(inside), DAY)
