"""The limiter on a cluster of two real nodes: every client's calls go to the node that has its key, and limits hold."""

import asyncio
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from api.rate_limit import LimitBook, Limits, Policy, RateLimiter
from api.rate_limit.limiter import limit_key
from service.embedded.processes import free_port
from service.embedded.valkey import _installed_program

pytestmark = pytest.mark.anyio

HALF = 8192
FORMED_WITHIN_S = 20.0


@dataclass(frozen=True, slots=True)
class Node:
    """A running node and its client."""

    process: "subprocess.Popen[bytes]"
    port: int
    bus: int
    client: redis.Redis


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """Two nodes, each with half of the slots."""
    running = [_started(tmp_path_factory.mktemp(f"node{number}")) for number in range(2)]
    try:
        give_up = time.monotonic() + FORMED_WITHIN_S
        for node in running:
            while not _answers(node):
                assert time.monotonic() < give_up
                time.sleep(0.02)
        asked(running[0], "CLUSTER ADDSLOTSRANGE", 0, HALF - 1)
        asked(running[1], "CLUSTER ADDSLOTSRANGE", HALF, 2 * HALF - 1)
        asked(running[0], "CLUSTER MEET", "127.0.0.1", running[1].port, running[1].bus)
        while not all(_formed(node) for node in running):
            assert time.monotonic() < give_up
            time.sleep(0.05)
        yield running
    finally:
        for node in running:
            node.client.close()
            node.process.send_signal(signal.SIGCONT)
            node.process.kill()
            node.process.wait()


def _started(home: Path) -> Node:
    port, bus = free_port(None), free_port(None)
    options = {"port": port, "bind": "127.0.0.1", "dir": home, "save": "", "requirepass": "a-password"}
    cluster = {"cluster-enabled": "yes", "cluster-port": bus, "cluster-node-timeout": 2000}
    words = [str(word) for name, value in (options | cluster).items() for word in (f"--{name}", value)]
    with (home / "log").open("wb") as out:
        process = subprocess.Popen([_installed_program(), *words], stdout=out, stderr=out)
    return Node(process, port, bus, redis.Redis(port=port, password="a-password", decode_responses=True))


def _answers(node: Node) -> bool:
    try:
        return bool(node.client.ping())
    except redis.ConnectionError:
        return False


def asked(node: Node, *words: str | int) -> Any:
    """What a node answers to a command."""
    return node.client.execute_command(*words)  # type: ignore[no-untyped-call]  # no types there


def _formed(node: Node) -> bool:
    info = asked(node, "CLUSTER INFO")
    known = info if isinstance(info, dict) else dict(line.split(":") for line in info.split())
    return known["cluster_state"] == "ok" and len(asked(node, "CLUSTER SLOTS")) == 2


def book(requests: int) -> LimitBook:
    return LimitBook(Limits.of(Policy("requests", 1, requests), Policy("items", 1, 1000)))


def clients_of_both(count: int) -> list[str]:
    """So many names for each half of the slots."""
    names = [f"provider:urn:{number}" for number in range(20 * count)]
    lower = [name for name in names if key_slot(limit_key(name).encode()) < HALF][:count]
    upper = [name for name in names if key_slot(limit_key(name).encode()) >= HALF][:count]
    return [name for pair in zip(lower, upper, strict=True) for name in pair]


async def test_each_client_has_its_limit_on_the_node_that_has_its_key(nodes: list[Node]) -> None:
    url = f"redis://:a-password@127.0.0.1:{nodes[1].port}"  # any of them
    limiters = [RateLimiter(book(10), url, timeout=5, retry=0.1) for _ in range(2)]
    for limiter in limiters:
        await limiter.start()
        assert limiter.shared
    clients = clients_of_both(5)
    decisions = await asyncio.gather(
        *(limiter.check(each) for _ in range(8) for each in clients for limiter in limiters)
    )
    assert not any(decision.local for decision in decisions)
    for each in clients:
        assert sum(decision.allowed for decision in decisions if decision.client == each) == 10
    for node in nodes:
        kept = node.client.keys()
        assert len(kept) == 5
        assert set(kept) <= {limit_key(each) for each in clients}
    for node in nodes:
        node.client.script_flush()
        node.client.flushall()
    again = await asyncio.gather(*(limiters[0].check(each) for each in clients))
    assert all(decision.allowed and not decision.local for decision in again)
    for limiter in limiters:
        await limiter.close()


async def test_a_node_that_hangs_makes_decisions_local_until_it_is_back(nodes: list[Node]) -> None:
    limiter = RateLimiter(book(1000), f"redis://:a-password@127.0.0.1:{nodes[0].port}", timeout=0.1, retry=0.1)
    await limiter.start()
    nodes[1].process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        decisions = await asyncio.gather(*(limiter.check(each) for each in clients_of_both(5)))
        assert time.monotonic() - began < 1.0
        assert all(decision.allowed and decision.local for decision in decisions)
    finally:
        nodes[1].process.send_signal(signal.SIGCONT)
    give_up = time.monotonic() + FORMED_WITHIN_S
    while not limiter.shared:
        assert time.monotonic() < give_up
        await asyncio.sleep(0.05)
    assert not any([(await limiter.check(each)).local for each in clients_of_both(1)])
    await limiter.close()
