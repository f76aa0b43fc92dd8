"""Where deliveries go and where they do not: private networks, names that change their meaning, redirects, silence."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpcore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from service.webhooks import addresses
from service.webhooks.addresses import AddressRefused, NameUnknown, PinnedBackend, is_public, resolve
from service.webhooks.endpoints import UrlRefused, checked_url
from service.webhooks.sending import Sender, open_sender

pytestmark = pytest.mark.anyio

INSIDE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",  # noqa: S104 - an address to be refused
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "192.88.99.1",
    "::",
    "::1",
    "fe80::1",
    "fec0::1",
    "fc00::1",
    "fd12:3456::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
]
OUTSIDE = [
    "1.1.1.1",
    "8.8.8.8",
    "172.15.255.255",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700:4700::1111",
    "::ffff:8.8.8.8",
]


@pytest.mark.parametrize("text", INSIDE)
def test_what_is_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", OUTSIDE)
def test_what_is_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "0x7f000001", "2130706433", "localhost", "::1"])
async def test_every_spelling_of_this_machine_is_refused(host: str) -> None:
    with pytest.raises((AddressRefused, NameUnknown)):
        await resolve(host, 443, private_allowed=False)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://bank.example/hooks", "not-https"),
        ("ftp://bank.example/hooks", "not-https"),
        ("//bank.example/hooks", "not-https"),
        ("https:///hooks", "not-a-url"),
        ("https://bank.example:0/hooks", "not-a-url"),
        ("https://bank.example:65536/hooks", "not-a-url"),
        ("https://[::1/hooks", "not-a-url"),
        ("https://bank.example/ho oks", "not-a-url"),
        ("https://银行.example/hooks", "not-a-url"),
        ("https://bank.example/\r\nx-evil: 1", "not-a-url"),
        ("https://user:word@bank.example/hooks", "carries-credentials"),
        ("https://bank.example@10.0.0.1/hooks", "carries-credentials"),
        ("https://bank.example/hooks#part", "has-fragment"),
        ("https://bank.example/" + "a" * 480, "not-a-url"),
    ],
)
def test_addresses_that_are_none(url: str, reason: str) -> None:
    with pytest.raises(UrlRefused) as refused:
        checked_url(url, plain_allowed=False)
    assert refused.value.reason == reason


def test_addresses_as_they_should_be() -> None:
    assert checked_url("https://bank.example/hooks?x=1", plain_allowed=False) == ("bank.example", 443)
    assert checked_url("https://bank.example:8443", plain_allowed=False) == ("bank.example", 8443)
    assert checked_url("http://127.0.0.1:9000/hooks", plain_allowed=True) == ("127.0.0.1", 9000)
    assert len("https://bank.example/" + "a" * 479) == 500
    assert checked_url("https://bank.example/" + "a" * 479, plain_allowed=False) == ("bank.example", 443)


Resolver = Callable[..., Awaitable[list[Any]]]


def answering(*answers: list[str]) -> tuple[list[str], Resolver]:
    """A resolver that gives these answers one after the other, and the names it was asked for."""
    asked: list[str] = []

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        texts = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, port)) for text in texts]

    return asked, getaddrinfo


async def test_one_private_answer_refuses_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    _, resolver = answering(["1.1.1.1", "10.0.0.7"])
    monkeypatch.setattr(addresses, "asyncio", _Loop(resolver))
    with pytest.raises(AddressRefused, match=r"10\.0\.0\.7"):
        await resolve("bank.example", 443, private_allowed=False)


class _Loop:
    """Stands in for the module asyncio: a loop with another resolver."""

    def __init__(self, resolver: Resolver) -> None:
        self.getaddrinfo = resolver

    def get_running_loop(self) -> "_Loop":
        return self


async def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that means a public address when it is checked and this machine a moment later: it is asked once."""
    asked, resolver = answering(["203.0.114.9"], ["127.0.0.1"])
    monkeypatch.setattr(addresses, "asyncio", _Loop(resolver))
    connected: list[str] = []

    class Network(httpcore.AsyncNetworkBackend):
        async def connect_tcp(self, host: str, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
            connected.append(host)
            raise httpcore.ConnectError("nobody is there")

    backend = PinnedBackend(private_allowed=False)
    monkeypatch.setattr(backend, "_network", Network())
    with pytest.raises(httpcore.ConnectError):
        await backend.connect_tcp("rebinding.example", 443)
    assert (asked, connected) == (["rebinding.example"], ["203.0.114.9"])


async def test_another_address_is_tried_when_one_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    _, resolver = answering(["203.0.114.9", "203.0.114.10"])
    monkeypatch.setattr(addresses, "asyncio", _Loop(resolver))
    connected: list[str] = []

    class Network(httpcore.AsyncNetworkBackend):
        async def connect_tcp(self, host: str, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
            connected.append(host)
            if len(connected) < 2:
                raise httpcore.ConnectError("nobody is there")
            return httpcore.AsyncNetworkStream()

    backend = PinnedBackend(private_allowed=False)
    monkeypatch.setattr(backend, "_network", Network())
    await backend.connect_tcp("bank.example", 443)
    assert connected == ["203.0.114.9", "203.0.114.10"]


@asynccontextmanager
async def raw_server(answer: bytes | None, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers every request with these bytes, or with None never; its address and what it was sent."""
    heard: list[bytes] = []
    serving: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError):  # the other side has had enough
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            heard.append(head + await reader.readexactly(length))
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
                await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        scheme = "https" if tls else "http"
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/hooks", heard
        await asyncio.wait_for(asyncio.gather(*serving), 5)


async def sent(sender: Sender, url: str) -> tuple[int | None, str | None]:
    answer = await sender.send(url, {"webhook-id": "evt_1"}, b"{}")
    assert answer.duration_ms >= 0
    return answer.status, answer.fault


def answered(status: int, extra: str = "", body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n{extra}\r\n".encode() + body


async def test_what_counts_as_delivered() -> None:
    cases = [
        (200, None),
        (204, None),
        (299, None),
        (301, "redirected"),
        (410, "gone"),
        (404, "refused"),
        (500, "refused"),
    ]
    async with open_sender(private_allowed=True) as sender:
        for status, fault in cases:
            async with raw_server(answered(status)) as (url, heard):
                assert await sent(sender, url) == (status, fault)
                assert heard[0].startswith(b"POST /hooks HTTP/1.1\r\nHost: 127.0.0.1:")
                assert heard[0].endswith(b"\r\n\r\n{}")


async def test_nobody_is_followed_elsewhere() -> None:
    async with raw_server(answered(200)) as (elsewhere, heard), open_sender(private_allowed=True) as sender:
        async with raw_server(answered(307, f"location: {elsewhere}\r\n")) as (url, _):
            assert await sent(sender, url) == (307, "redirected")
        assert heard == []


async def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_server(answered(200)) as (proxy, heard), raw_server(answered(200)) as (url, _):
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy)
        async with open_sender(private_allowed=True) as sender:
            assert await sent(sender, url) == (200, None)
        assert heard == []


async def test_silence_ends_in_time_and_an_endless_answer_is_not_read() -> None:
    async with open_sender(private_allowed=True, timeout_s=0.2) as sender:
        async with raw_server(None) as (url, _):
            assert await sent(sender, url) == (None, "timed-out")
        async with raw_server(answered(200, body=b"x" * 5_000_000)) as (url, _):
            assert await sent(sender, url) == (200, None)
        async with raw_server(b"nonsense\r\n\r\n") as (url, _):
            assert await sent(sender, url) == (None, "broken-off")
        assert await sent(sender, url) == (None, "not-reached")
        assert await sent(sender, "http://nowhere.invalid/hooks") == (None, "name-unknown")


async def test_a_private_address_is_refused_outside_development() -> None:
    async with raw_server(answered(200)) as (url, heard), open_sender(private_allowed=False) as sender:
        assert await sent(sender, url) == (None, "address-refused")
        assert await sent(sender, url.replace("127.0.0.1", "localhost")) == (None, "address-refused")
        assert heard == []


def certified(tmp_path: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's TLS with a certificate for this name, and a client's that believes it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, SHA256())
    )
    file = tmp_path / "certificate.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(made.public_bytes(Encoding.PEM) + secret)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=file)


async def test_a_certificate_is_for_the_name_and_not_for_the_address(tmp_path: Path) -> None:
    server, client = certified(tmp_path, "localhost")
    async with raw_server(answered(200), server) as (url, heard):
        named = url.replace("127.0.0.1", "localhost")
        async with open_sender(private_allowed=True, tls=client) as sender:
            assert await sent(sender, named) == (200, None)
            assert await sent(sender, url) == (None, "tls-failed")
        async with open_sender(private_allowed=True) as sender:
            assert await sent(sender, named) == (None, "tls-failed")
        assert len(heard) == 1
        assert b"\r\nHost: localhost:" in heard[0]
