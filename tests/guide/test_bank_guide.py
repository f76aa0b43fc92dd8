"""The bank's guide (docs/bank-guide.md): it shows every file as it is, both languages say the same, and its reader's
way is gone from the sandbox to the closed day, against a real platform."""

import asyncio
import csv
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from service.settings import PREFIX
from service.settlement.closing import issue_due
from service.worker import drain
from tests.conftest import Database
from tests.guide.conftest import A_DAY_LATER_S, Platform
from tests.guide.workshop import ROOT, WITHIN_S
from tests.running import pooled

FILES = ROOT / "docs" / "bank-snippets"
GUIDES = {"en": ROOT / "docs" / "bank-guide.md", "zh": ROOT / "docs" / "bank-guide.zh.md"}
FENCES = {".sh": "sh", ".py": "python", ".yaml": "yaml"}
EVERY_GUIDE = pytest.mark.parametrize("language", GUIDES)

_SHOWN = re.compile(r"^<!-- bank snippet (\S+) -->\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _text(language: str) -> str:
    return GUIDES[language].read_text("utf-8")


@EVERY_GUIDE
def test_the_guide_shows_the_files_as_they_are(language: str) -> None:
    shown = _SHOWN.findall(_text(language))
    assert sorted(name for name, _, _ in shown) == sorted(path.name for path in FILES.iterdir() if path.is_file())
    for name, fence, content in shown:
        path = FILES / name
        assert fence == FENCES[path.suffix], name
        renew = "renew it: .venv/bin/python -m tests.guide.test_bank_guide --write"
        assert content == path.read_text("utf-8"), f"{name} differs; {renew}"
    assert "```" not in _SHOWN.sub("", _text(language)), "code that is no file of docs/bank-snippets: nothing runs it"


def test_both_guides_have_the_same_shape() -> None:
    shapes = []
    for language in GUIDES:
        prose = _SHOWN.sub("", _text(language))
        shapes.append(
            {
                "snippets": [name for name, _, _ in _SHOWN.findall(_text(language))],
                "headings": [len(marks) for marks in re.findall(r"^(#+) ", prose, re.MULTILINE)],
                "rows": len(re.findall(r"^\|", prose, re.MULTILINE)),
                "items": re.findall(r"^(- |\d\.)", prose, re.MULTILINE),
                "code": sorted(set(re.findall(r"`([^`\n]+)`", prose))),
                "targets": [re.sub(r"#.*", "", link) for link in re.findall(r"\]\(([^)]+)\)", prose)][1:],
            }
        )
    en, zh = shapes
    for name, found in en.items():
        assert found == zh[name], name


@dataclass
class Desk:
    """A copy of the files in which the reader works, and the variables that were read in."""

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)

    async def run(self, command: str, changes: Mapping[str, str] | None = None, *, status: int = 0) -> str:
        """Run a command of the guide, perhaps with other variables; what it printed."""
        process = await asyncio.create_subprocess_exec(
            *command.split(),
            cwd=self.directory,
            env=self.environment | dict(changes or {}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(WITHIN_S):
            out, err = await process.communicate()
        assert process.returncode == status, f"{command}:\n{out.decode()}\n{err.decode()}"
        return out.decode() + err.decode()

    async def read_in(self, script: Path) -> None:
        """Read a script in with a dot, in the project's directory, and keep its variables."""
        reading = f". {shlex.quote(str(script))}; env -0"
        process = await asyncio.create_subprocess_exec(
            "bash", "-ec", reading, cwd=ROOT, env=self.environment, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        pairs = (pair.partition("=") for pair in out.decode().split("\0") if pair)
        self.environment |= {name: value for name, _, value in pairs}


@pytest.fixture
async def desk(platform: Platform, tmp_path: Path) -> Desk:
    directory = tmp_path / "bank"
    shutil.copytree(FILES, directory)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    path = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{kept['PATH']}"
    own = {"PATH": path, "LC_ALL": "C.UTF-8", "PLATFORM": platform.url, "TANPUHUI_DATA_DIR": str(platform.data_dir)}
    desk = Desk(directory, kept | own)
    await desk.read_in(FILES / "sandbox.sh")
    return desk


@pytest.mark.anyio
async def test_a_stranger_settles_and_reconciles(desk: Desk, platform: Platform, database: Database) -> None:
    registered = await desk.run("sh register.sh")
    assert re.findall(r" (\d{3})$", registered, re.MULTILINE) == ["200"] * 9, registered
    async with platform.api.platform.pool.acquire() as connection:
        await platform.api.platform.offers.refresh(connection)
    assert (await desk.run("python3 check_signature.py")).startswith('accepted\n"@method": POST\n')
    await desk.run("python3 customer.py")
    first = (desk.directory / "entitlement.jws").read_text("ascii")
    await desk.run("python3 customer.py")  # a second one, who never shows it
    (desk.directory / "entitlement.jws").write_text(first, "ascii")
    settle = "python3 settle.py entitlement.jws loan-4711"
    for _ in range(2):  # the same again changes nothing, and writes nothing twice
        said = await desk.run(settle)
        assert "captured 3 units, 2 went back to the customer" in said
    (book,) = desk.directory.glob("book-*.csv")
    with book.open(encoding="utf-8", newline="") as file:
        assert [(line["kind"], line["units"]) for line in csv.DictReader(file)] == [
            ("hold", "5"), ("capture", "3"), ("release", "2"),
        ]  # fmt: skip
    day = book.stem.removeprefix("book-")
    async with pooled(database.sequencer) as worker:
        await drain(worker)
        async with worker.acquire() as connection:
            await issue_due(connection, timedelta(seconds=int(A_DAY_LATER_S)))
    later = {"PLATFORM": platform.url_later, "TANPUHUI_CLOCK_OFFSET": A_DAY_LATER_S}
    whole = book.read_text("utf-8")
    book.write_text(whole.replace(",3,300", ",3,301"), "utf-8")
    refused = await desk.run(f"python3 reconcile.py {day} {book.name}", later, status=1)
    assert "amount-differs" in refused
    assert "1 differences, 1 fen" in refused
    book.write_text(whole, "utf-8")
    closed = await desk.run(f"python3 reconcile.py {day} {book.name}", later)
    assert closed == f"{day}: 4 entries agree, and the day is closed\n"


def write() -> None:
    """Put the files as they are into both guides."""
    for path in GUIDES.values():
        text = _SHOWN.sub(
            lambda found: (
                f"<!-- bank snippet {found[1]} -->\n```{found[2]}\n{(FILES / found[1]).read_text('utf-8')}```"
            ),
            path.read_text("utf-8"),
        )
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("python -m tests.guide.test_bank_guide --write puts the files into both guides")
    write()
