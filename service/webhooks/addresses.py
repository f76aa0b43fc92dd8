"""Where a delivery may go: to public addresses alone, and to the very address that was checked.

A bank names the address, and the platform's own network trusts the platform: without this a webhook would be a way to
ask the database's host, or a cloud's metadata service, from inside. A name is resolved once for each connection, every
answer is checked, and the connection is made to one of the checked numbers, so that a name that means something else a
moment later changes nothing. TLS and the Host header keep the name.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable

import httpcore

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Networks that the standard library counts as global and that lead, or may lead, somewhere of our own.
_INSIDE = tuple(
    map(
        ipaddress.ip_network,
        (
            "192.88.99.0/24",  # relays of 6to4
            "64:ff9b::/96",  # NAT64: an IPv4 address of any kind
            "64:ff9b:1::/48",
            "2001::/23",  # protocol assignments, Teredo among them
            "2002::/16",  # 6to4: an IPv4 address of any kind
            "fec0::/10",  # the former site-local addresses
        ),
    )
)


class AddressRefused(Exception):
    """The name stands for an address that no delivery goes to."""


class NameUnknown(Exception):
    """The name stands for no address, as far as the resolver knows now."""


def is_public(address: Address) -> bool:
    """Whether it is an address of the public internet, for one receiver."""
    inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if inner is not None:
        return is_public(inner)
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not address.is_unspecified
        and not any(address in network for network in _INSIDE if network.version == address.version)
    )


async def resolve(host: str, port: int, *, private_allowed: bool) -> list[str]:
    """The addresses of a name, all of them checked: one that is not public refuses the name.

    private_allowed   in development, where a receiver runs on the same machine

    Raises AddressRefused, NameUnknown.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NameUnknown(f"{host} cannot be resolved") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not addresses:
        raise NameUnknown(f"{host} has no address")
    if not private_allowed:
        for text in addresses:
            # a scope names an interface of ours: fe80::1%eth0
            if "%" in text or not is_public(ipaddress.ip_address(text)):
                raise AddressRefused(f"{host} stands for {text}, which is not a public address")
    return addresses


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses. Everything that httpcore connects to goes through here."""

    def __init__(self, *, private_allowed: bool) -> None:
        self._private_allowed = private_allowed
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the method is httpcore's
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises AddressRefused, NameUnknown, and what httpcore raises for the last address that was tried."""
        addresses = await resolve(host, port, private_allowed=self._private_allowed)
        for address in addresses[:-1]:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._network.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - the method is httpcore's
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """No delivery goes to a socket of this machine."""
        raise AddressRefused(f"{path} is a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)
