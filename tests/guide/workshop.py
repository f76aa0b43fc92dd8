"""What the tests of the guide share: a copy of its snippets with the environment the guide sets up, the answers it
shows, and a line to the platform that loses answers."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from service.settings import PREFIX

ROOT = Path(__file__).resolve().parents[2]
SNIPPETS = ROOT / "docs" / "snippets"
WITHIN_S = 120.0  # a second for Java's compiler on an idle machine

_ANSWER = re.compile(r"^(?:(?P<before>\d{3}) )?(?P<body>\{.*\})(?: (?P<after>\d{3}))?$", re.MULTILINE)
_VARYING = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\d{4}-\d\d-\d\d(T[\d:.]+(Z|[+-][\d:]+))?|[\w-]{43}"
)


class Answer(NamedTuple):
    """An answer of the platform as a snippet printed it, or as the guide shows it."""

    status: int
    body: Any


def answers_in(output: str) -> list[Answer]:
    """Every answer that a snippet printed: a status and a JSON object on one line, in either order."""
    found = []
    for match in _ANSWER.finditer(output):
        status = match["before"] or match["after"]
        if status:
            found.append(Answer(int(status), json.loads(match["body"])))
    return found


def shown(name: str) -> Answer:
    """An answer of docs/snippets/answers, as the guide shows it."""
    head, _, body = (SNIPPETS / "answers" / name).read_text("utf-8").partition("\n\n")
    return Answer(int(head.split()[1]), json.loads(body))


def assert_shown(name: str, came: Answer) -> None:
    """What came is what the guide shows; the guide may leave members out, and ids, times and keys differ."""
    expected = shown(name)
    assert came.status == expected.status, f"{name}: {came}"
    _contains(expected.body, came.body, name)


def _contains(expected: Any, came: Any, where: str) -> None:
    if isinstance(expected, dict):
        for member, value in expected.items():
            assert member in came, f"{where} has no {member}: {came}"
            _contains(value, came[member], f"{where}.{member}")
    elif isinstance(expected, list):
        assert len(expected) == len(came), f"{where}: {came}"
        for number, (one, other) in enumerate(zip(expected, came, strict=True)):
            _contains(one, other, f"{where}[{number}]")
    elif isinstance(expected, str):
        assert isinstance(came, str), f"{where}: {came}"
        assert _VARYING.sub("<>", expected) == _VARYING.sub("<>", came), where
    else:
        assert expected == came, where


@dataclass(slots=True)
class Workshop:
    """The copy of the snippets that a reader of the guide works in."""

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shutil.copytree(SNIPPETS, self.directory)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        path = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{kept['PATH']}"
        # The quick compiler of Java is enough for a program that runs for a second
        quick = {"JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
        if kept.pop("PYTHONDONTWRITEBYTECODE", None):  # each command would compile every library again
            quick["PYTHONPYCACHEPREFIX"] = str(self.directory.parent.parent / "bytecode")
        self._other_meter()
        self.environment = kept | quick | {"PATH": path, "LC_ALL": "C.UTF-8", "COLUMNS": "120"} | self.environment

    def _other_meter(self) -> None:
        """A meter and an address of its own: each counts once on the whole platform."""
        for path in self.directory.glob("*/[mM]eter.*"):
            own = f"{self.directory.parent.name} {os.getpid()}"
            path.write_text(re.sub(r'"(meter|address)": "[^"]+"', rf'"\1": "{own}"', path.read_text("utf-8")), "utf-8")

    async def start(self, command: str, **changes: str) -> asyncio.subprocess.Process:
        """Start a command of the guide; `changes` are variables of its environment."""
        return await asyncio.create_subprocess_exec(
            *command.split(),
            cwd=self.directory,
            env=self.environment | changes,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, command: str, **changes: str) -> str:
        """Run a command of the guide, which must succeed; what it printed."""
        process = await self.start(command, **changes)
        try:
            async with asyncio.timeout(WITHIN_S):
                out, err = await process.communicate()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        assert process.returncode == 0, f"{command}:\n{out.decode()}\n{err.decode()}"
        return out.decode()

    async def ask(self, command: str, **changes: str) -> list[Answer]:
        """Run a command of the guide; the answers it printed."""
        return answers_in(await self.run(command, **changes))

    async def read_in(self, script: str, **changes: str) -> None:
        """Read a script in with a dot, as the guide says, and keep the variables it sets."""
        process = await asyncio.create_subprocess_exec(
            "bash", "-ec", f". {script}; env -0",
            cwd=ROOT, env=self.environment | changes, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
        assert process.returncode == 0, script
        pairs = (pair.partition("=") for pair in out.decode().split("\0") if pair)
        self.environment |= {name: value for name, _, value in pairs}

    def lines(self, name: str) -> list[str]:
        return (self.directory / name).read_text("utf-8").splitlines()


async def kill(process: asyncio.subprocess.Process) -> None:
    """End a program as a crash does."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGKILL)
    await process.communicate()


@dataclass(slots=True)
class BadLine:
    """A line to the platform. Reports are counted from 1: the answers to those in `loses` never arrive because the
    connection breaks; at the report `hangs_at` the platform has answered, and the line passes nothing on."""

    url: str
    loses: frozenset[int] = frozenset()
    hangs_at: int = 0
    reports: int = 0
    hanging: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request after request."""
        platform = urlsplit(self.url)
        there_reader, there = await asyncio.open_connection(platform.hostname, platform.port)
        try:
            while request := await _message(reader):
                there.write(request)
                answer = await _message(there_reader)
                if request.startswith(b"POST /v1/activities"):
                    self.reports += 1
                    if self.reports in self.loses:
                        return
                    if self.reports == self.hangs_at:
                        self.hanging.set()
                        await reader.read()  # until the program is gone
                        return
                writer.write(answer)
                await writer.drain()
        finally:
            there.close()
            writer.close()


async def _message(reader: asyncio.StreamReader) -> bytes:
    """A request or an answer with its body; nothing when the other side is gone."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        return head + (await reader.readexactly(int(length[1])) if length else b"")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


@asynccontextmanager
async def bad_line(line: BadLine) -> AsyncIterator[str]:
    """The address at which programs find the platform behind this line."""
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0, limit=2**22)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def tokens(bearer: Mapping[str, str]) -> str:
    """The token of an Authorization header."""
    return bearer["Authorization"].removeprefix("Bearer ")
