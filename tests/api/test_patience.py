"""Slow, endless and silent clients over real sockets: each is cut in its time, and others are served meanwhile."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from api.hardening import protocol
from api.hardening.protocol import LARGEST_HEAD, Patience, bounded

pytestmark = pytest.mark.anyio

REQUEST_S = 0.4
SLACK_S = 2.0  # a busy machine
CONNECTIONS = 6


@pytest.fixture(autouse=True)
def _looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LOOK_EVERY_S", 0.05)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Echoes a body; on /large an answer that nobody's buffers hold; on /early it answers without reading."""
    if scope["type"] != "http":
        return
    response: Response
    if scope["path"] == "/large":
        response = PlainTextResponse(b"x" * 64 * 2**20)
    elif scope["path"] == "/early":
        response = PlainTextResponse(b"no")
    else:
        try:
            response = PlainTextResponse(await Request(scope, receive).body())
        except ClientDisconnect:
            return
    await response(scope, receive, send)


@asynccontextmanager
async def served(**changes: float) -> AsyncIterator[int]:
    """The application on a port, with little patience."""
    patience = Patience(changes.get("request_s", REQUEST_S), int(changes.get("connections", CONNECTIONS)))
    config = uvicorn.Config(application, lifespan="off", log_config=None, ws="none", http=bounded(patience))
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = server.force_exit = True
            await serving


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def opened(port: int) -> Stream:
    return await asyncio.open_connection("127.0.0.1", port)


async def rest(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the server ends the connection."""
    try:
        return await asyncio.wait_for(reader.read(), REQUEST_S + SLACK_S)
    except ConnectionResetError:
        return b""


async def assert_others_are_served(port: int) -> None:
    reader, writer = await opened(port)
    writer.write(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    answer = await rest(reader)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nok")
    writer.close()


async def test_a_client_that_says_nothing_is_let_go() -> None:
    async with served() as port:
        reader, writer = await opened(port)
        began = time.monotonic()
        assert await rest(reader) == b""
        assert REQUEST_S <= time.monotonic() - began < REQUEST_S + SLACK_S
        writer.close()


async def test_a_head_that_trickles_is_cut() -> None:
    async with served() as port:
        reader, writer = await opened(port)
        writer.write(b"GET / HTTP/1.1\r\nHost: t\r\n")

        async def trickle() -> None:
            for number in range(1000):
                writer.write(b"X-%d: y\r\n" % number)
                await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        await assert_others_are_served(port)
        assert (await rest(reader)).startswith(b"HTTP/1.1 408 ")
        trickling.cancel()
        writer.close()


async def test_a_head_without_an_end_is_cut_by_its_size() -> None:
    async with served(request_s=60) as port:
        reader, writer = await opened(port)
        writer.write(b"GET / HTTP/1.1\r\nHost: t\r\n" + b"X-Filler: y\r\n" * (LARGEST_HEAD // 13 + 10))
        answer = await rest(reader)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"nosniff" in answer
        writer.close()


async def test_a_body_that_trickles_is_cut() -> None:
    async with served() as port:
        reader, writer = await opened(port)
        writer.write(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n")

        async def trickle() -> None:
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        await assert_others_are_served(port)
        assert (await rest(reader)).startswith(b"HTTP/1.1 408 ")
        trickling.cancel()
        writer.close()


async def test_a_body_that_comes_fast_enough_is_taken_however_long_it_is() -> None:
    async with served() as port:
        reader, writer = await opened(port)
        pieces, piece = 12, b"y" * 8192
        writer.write(b"POST / HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (pieces * 8192))
        for _ in range(pieces):  # twice the time of a head, and every piece buys two seconds
            writer.write(piece)
            await asyncio.sleep(2 * REQUEST_S / pieces)
        assert (await rest(reader)).endswith(piece)
        writer.close()


async def test_a_body_after_an_early_answer_is_not_waited_for() -> None:
    async with served() as port:
        reader, writer = await opened(port)
        writer.write(b"POST /early HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n")
        assert (await asyncio.wait_for(reader.readline(), SLACK_S)).startswith(b"HTTP/1.1 200 ")

        async def trickle() -> None:
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        assert b"408" not in await rest(reader)
        trickling.cancel()
        writer.close()


async def test_who_does_not_read_an_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "UNREAD_S", 0.3)
    async with served() as port:
        _, writer = await opened(port)
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport has it
        writer.write(b"GET /large HTTP/1.1\r\nHost: t\r\n\r\n")
        before = protocol.CUT.labels("unread")._value.get()
        give_up = time.monotonic() + 5
        while protocol.CUT.labels("unread")._value.get() == before:
            assert time.monotonic() < give_up
            await asyncio.sleep(0.05)
        writer.close()


async def test_requests_one_after_another_keep_their_connection() -> None:
    async with served() as port:
        reader, writer = await opened(port)
        for _ in range(4):  # together longer than a head may take
            writer.write(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nok")
            assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\nok"), SLACK_S)).startswith(b"HTTP/1.1 200 ")
            await asyncio.sleep(REQUEST_S / 2)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n")
        assert (await rest(reader)).count(b"HTTP/1.1 200 ") == 2
        writer.close()


async def test_no_more_connections_are_kept_than_are_allowed() -> None:
    async with served(request_s=60) as port:
        kept = [await opened(port) for _ in range(CONNECTIONS)]
        reader, further = await opened(port)
        assert (await rest(reader)).startswith(b"HTTP/1.1 503 ")
        further.close()
        kept[0][1].close()
        await asyncio.sleep(0.1)
        await assert_others_are_served(port)
        for _, writer in kept:
            writer.close()


async def test_an_upgrade_is_a_request_like_any_other() -> None:
    async with served() as port:
        reader, writer = await opened(port)
        writer.write(
            b"GET / HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert (await asyncio.wait_for(reader.readline(), SLACK_S)).startswith(b"HTTP/1.1 200 ")
        writer.close()
