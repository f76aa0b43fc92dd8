"""Where a request comes from, as the limiter knows it: a keyed tag that changes every day.

Neither the limiter's server nor a log line holds an address, and the tags of two days cannot be told to be one
address's by anybody without the keyring.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from service.keyring import Keyring

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MOST_HOPS = 16  # of X-Forwarded-For that are looked at


def host_of(scope: Mapping[str, Any], trusted: Sequence[Network]) -> str:
    """The address a request comes from; empty on a socket without addresses.

    Behind a proxy of ours it is the last address in X-Forwarded-For that is not a proxy of ours: what stands before
    that one was written by the client and is nobody's word.
    """
    client = scope.get("client")
    host = str(client[0]) if client else ""
    if not trusted or not is_trusted(host, trusted):
        return host
    named = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for").decode("latin-1")
    for hop in reversed(named.split(",")[-MOST_HOPS:]):
        address = _parsed(hop.strip())
        if address is None:
            return host
        host = str(address)
        if not is_trusted(host, trusted):
            return host
    return host


def is_trusted(host: str, trusted: Sequence[Network]) -> bool:
    """Whether this address is one of our proxies; a socket without addresses is."""
    if not host:
        return True
    address = _parsed(host)
    return address is not None and any(address in network for network in trusted)


def address_name(keyring: Keyring, host: str, today: date) -> str:
    """The limiter's name of an address. Of IPv6 a whole /64 has one, which is what one household gets."""
    address = _parsed(host)
    if isinstance(address, ipaddress.IPv6Address):
        host = str(ipaddress.IPv6Network((address.packed[:8] + bytes(8), 64)))
    elif address is not None:
        host = str(address)
    message = b"address\0" + today.isoformat().encode("ascii") + b"\0" + host.encode("utf-8")
    return "address:" + keyring.tag("cursor", message).hex()[:16]


def _parsed(host: str) -> Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None  # a socket has no address: all its callers share one quota
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
