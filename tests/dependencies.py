"""An audit of what we depend on that needs no network: `python -m tests.dependencies`, or `make audit-deps`.

It sees that every package is pinned by hash and once, that what is installed is what is pinned and fits together, and
under which licences it comes. It cannot see what the world has learnt since: known vulnerabilities, versions that were
withdrawn, projects that nobody keeps any more. SECURITY.md says what is run for that, where there is a network.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
FILES = ("run", "image", "dev", "load", "uv")

_PIN = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[a-z0-9,_-]+\])?==(?P<version>[A-Za-z0-9.!+_-]+)( ; (?P<marker>[^\\]+))?"
)
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")

# Words by which packages name licences that let us ship them beside code under Apache-2.0 and ask for nothing more
# than their notices.
PERMISSIVE = frozenset(
    {
        *("MIT", "MIT-0", "MIT-CMU", "MIT License", "BSD", "BSD License", "BSD-2-Clause", "BSD-3-Clause", "0BSD"),
        *(
            "BSD 2-Clause License",
            "BSD 3-Clause License",
            "ISC",
            "ISC License",
            "ISC License (ISCL)",
            "Zlib",
            "CC0-1.0",
        ),
        *("Apache-2.0", "Apache 2", "Apache 2.0", "Apache Software License", "PSF-2.0", "ZPL-2.1"),
        *("Python Software Foundation License", "Unlicense"),
    }
)
# Those that ask for more, each with why it may be here.
EXCEPTIONS = {
    "psycopg": "LGPL: imported as it comes, by migrations and tests, and exchangeable",
    "psycopg-binary": "LGPL: the same",
    "certifi": "MPL: a list of certificates, unchanged",
    "orjson": "MPL in parts: unchanged, as a wheel",
    "pathspec": "MPL: only in the tools that build and check",
    "hypothesis": "MPL: only in tests",
    "bidict": "MPL: only in load tests",
}
_SPLIT = re.compile(r" (?:AND|OR|WITH) |[()]")


@dataclass(frozen=True, slots=True)
class Pin:
    """One line of a requirements file."""

    name: str
    version: str
    marker: str | None
    hashes: int


def read_pins(text: str) -> tuple[list[Pin], list[str]]:
    """The pins of a requirements file, and what in it is none."""
    pins, strange = [], []
    for whole in text.replace("\\\n", " ").splitlines():
        line = whole.strip()
        if not line or line.startswith("#"):
            continue
        hashes = _HASH.findall(line)
        match = _PIN.fullmatch(_HASH.sub("", line).strip())
        if match is None:
            strange.append(line[:100])
        else:
            pins.append(Pin(canonicalize_name(match["name"]), match["version"], match["marker"], len(hashes)))
    return pins, strange


def faults_of_files(texts: dict[str, str]) -> Iterator[str]:
    """What is wrong with the requirements files by themselves."""
    versions: dict[tuple[str, str], set[str]] = {}
    for file, text in texts.items():
        pins, strange = read_pins(text)
        yield from (f"{file}: {line!r} is no pin of one version by hash: run `make lock`" for line in strange)
        yield from (f"{file}: {pin.name} {pin.version} has no hash: run `make lock`" for pin in pins if not pin.hashes)
        seen: set[tuple[str, str | None]] = set()
        for pin in pins:
            if (pin.name, pin.marker) in seen:
                yield f"{file}: {pin.name} is pinned twice: run `make lock`"
            seen.add((pin.name, pin.marker))
            versions.setdefault((pin.name, pin.marker or ""), set()).add(pin.version)
    for (name, _), found in sorted(versions.items()):
        if len(found) > 1:
            yield f"{name} is pinned as {', '.join(sorted(found))} in different files: run `make lock`"


def faults_of_environment(pinned: Iterable[Pin]) -> Iterator[str]:
    """What is installed here and is not what is pinned, or does not fit together."""
    wanted: dict[str, set[str]] = {}
    for pin in pinned:
        if pin.marker is None or Marker(pin.marker).evaluate():
            wanted.setdefault(pin.name, set()).add(pin.version)
    installed = {canonicalize_name(each.name): each for each in metadata.distributions()}
    for name, distribution in sorted(installed.items()):
        if name in _OURS:
            continue
        if name not in wanted:
            yield f"{name} {distribution.version} is installed and pinned nowhere: make the environment anew"
        elif distribution.version not in wanted[name]:
            yield f"{name} {distribution.version} is installed, {sorted(wanted[name])} is pinned: make it anew"
        for text in distribution.requires or ():
            needed = Requirement(text)
            if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
                continue
            other = installed.get(canonicalize_name(needed.name))
            if other is None or not needed.specifier.contains(other.version, prereleases=True):
                yield f"{name} needs {text}, which is not there: run `make lock`"


_OURS = {"tanpuhui", "pip", "setuptools", "uv"}  # ourselves, and what an environment is made with


def licences_of(distribution: metadata.Distribution) -> set[str]:
    """The licences that a package names: its expression, else its classifiers, else its own word."""
    about = distribution.metadata
    if expressions := about.get_all("License-Expression"):
        return {part.strip() for part in _SPLIT.split(expressions[0]) if part.strip()}
    prefix = "License :: "
    classified = {each.rpartition(" :: ")[2] for each in about.get_all("Classifier") or () if each.startswith(prefix)}
    return classified or {text.strip()[:60] for text in about.get_all("License") or ["none named"]}


def faults_of_licences(distributions: Iterable[metadata.Distribution]) -> Iterator[str]:
    """Packages whose licence is none of those that were looked at and agreed to."""
    for distribution in sorted(distributions, key=lambda each: each.name.lower()):
        name = canonicalize_name(distribution.name)
        other = licences_of(distribution) - PERMISSIVE
        if other and name not in EXCEPTIONS:
            yield f"{name} comes under {', '.join(sorted(other))}: look at it, and say in EXCEPTIONS why it may be here"


def audit(root: Path = ROOT) -> list[str]:
    """Everything that is wrong, each with what to do; empty when all is well."""
    texts = {f"{file}.txt": (root / "requirements" / f"{file}.txt").read_text("utf-8") for file in FILES}
    pinned = [pin for text in texts.values() for pin in read_pins(text)[0]]
    return [*faults_of_files(texts), *faults_of_environment(pinned), *faults_of_licences(metadata.distributions())]


if __name__ == "__main__":
    found = audit()
    for fault in found:
        print(f"- {fault}")
    count = len(list(metadata.distributions()))
    print(
        f"{count} packages: pinned by hash, installed as pinned, licences known"
        if not found
        else f"{len(found)} faults"
    )
    sys.exit(1 if found else 0)
