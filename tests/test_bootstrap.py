"""The set-up: pins that cover what is declared, pip's settings in uv's words, and a finished environment left alone."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import bootstrap

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "requirements").glob("*.txt"))
PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[a-z,]+\])?==(?P<version>\S+)( ; .+)? \\")


def pins(path: Path) -> dict[str, set[str]]:
    """Name to pinned versions: several where the version depends on the Python."""
    found: dict[str, set[str]] = {}
    for line in path.read_text("utf-8").splitlines():
        if match := PIN.fullmatch(line):
            found.setdefault(canonicalize_name(match["name"]), set()).add(match["version"])
    return found


def declared(project: dict[str, Any], parts: list[str]) -> list[Requirement]:
    """What pyproject.toml asks for, with the extras and groups that `bootstrap.py lock` takes for one file."""
    texts = list(project["project"]["dependencies"])
    for part in parts:
        option, name = part.split("=")
        texts += (project["dependency-groups"] if option == "--group" else project["project"]["optional-dependencies"])[
            name
        ]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_line_is_a_pin_or_its_hash_and_names_no_index(path: Path) -> None:
    strange = [
        line
        for line in path.read_text("utf-8").splitlines()
        if not PIN.fullmatch(line) and not re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line)
    ]
    assert strange == []


@pytest.mark.parametrize("name", bootstrap.LOCKS)
def test_the_pins_satisfy_what_is_declared(name: str) -> None:
    """If not: make lock."""
    pinned = pins(ROOT / "requirements" / f"{name}.txt")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    for requirement in declared(project, bootstrap.LOCKS[name]):
        versions = pinned.get(canonicalize_name(requirement.name), set())
        assert versions, f"{requirement} is not pinned in requirements/{name}.txt: run `make lock`"
        assert all(requirement.specifier.contains(version) for version in versions), f"{requirement}: run `make lock`"


@pytest.mark.parametrize("name", bootstrap.LOCKS)
def test_every_environment_has_the_same_versions(name: str) -> None:
    largest = pins(ROOT / "requirements" / "load.txt")
    for package, versions in pins(ROOT / "requirements" / f"{name}.txt").items():
        assert versions <= largest[package]


def test_uv_is_told_what_pip_was_told(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    config = f"""
        global.cert='/etc/company.pem'
        global.index-url='https://mirror.example/simple'
        :env:.index-url='https://nearer.example/simple'
        global.extra-index-url='https://second.example/simple https://third.example/simple'
        global.find-links='{tmp_path}/wheels {tmp_path}/gone'
        global.timeout='60'
    """
    environ = bootstrap.uv_environ(tmp_path, {"HOME": str(tmp_path), "SSL_CERT_FILE": "mine.pem"}, config)
    assert environ == {
        "HOME": str(tmp_path),
        "SSL_CERT_FILE": "mine.pem",
        "UV_DEFAULT_INDEX": "https://nearer.example/simple",
        "UV_INDEX": "https://second.example/simple https://third.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": f"{tmp_path}/wheels",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROJECT": "1",
    }


def test_uvs_own_settings_win_and_a_home_that_cannot_be_written_is_not_needed(tmp_path: Path) -> None:
    given = {"UV_DEFAULT_INDEX": "https://chosen.example/simple", "HOME": "/nonexistent"}
    environ = bootstrap.uv_environ(tmp_path, given, "global.index-url='https://mirror.example/simple'")
    assert environ["UV_DEFAULT_INDEX"] == "https://chosen.example/simple"
    assert environ["UV_CACHE_DIR"] == str(tmp_path / ".tools" / "cache")


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A checkout whose development environment is finished, so far as bootstrap can see."""
    root = tmp_path / "a place with 碳"
    (root / "requirements").mkdir(parents=True)
    for name in bootstrap.LEVELS:
        (root / "requirements" / f"{name}.txt").write_text(f"{name} 1\n")
    (root / "pyproject.toml").write_text("[project]\n")
    (root / ".venv" / "bin").mkdir(parents=True)
    (root / ".venv" / "bin" / "python").touch()
    bootstrap.write_stamp(root, "dev")
    return root


def test_a_finished_environment_is_left_alone(finished: Path) -> None:
    for level in ("run", "dev"):
        bootstrap.ensure(finished, level)
    assert not (finished / ".tools").exists()
    assert not bootstrap.is_current(finished, "load")


@pytest.mark.parametrize("change", ["requirements/dev.txt", "pyproject.toml", ".venv/stamp"])
def test_a_change_is_noticed(finished: Path, change: str) -> None:
    assert bootstrap.is_current(finished, "run")
    (finished / change).write_text("changed\n")
    assert not bootstrap.is_current(finished, "run")


def test_an_environment_that_was_moved_or_lost_its_python_is_noticed(finished: Path) -> None:
    moved = finished.rename(finished.with_name("elsewhere"))
    assert not bootstrap.is_current(moved, "run")
    bootstrap.write_stamp(moved, "run")
    assert bootstrap.is_current(moved, "run")
    (moved / ".venv" / "bin" / "python").unlink()
    assert not bootstrap.is_current(moved, "run")


def test_an_older_python_is_told_so_plainly() -> None:
    pretend = "import sys, runpy; sys.version_info = (3, 9, 2); runpy.run_path('bootstrap.py', run_name='__main__')"
    answer = subprocess.run(
        [sys.executable, "-c", pretend], cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert answer.returncode == 1
    assert answer.stderr.startswith("Python 3.11 or newer is needed")
