"""What we depend on is pinned, fits together, and may be shipped; and the audit sees when it is not."""

from email.message import Message
from importlib import metadata

import pytest

from tests.dependencies import (
    EXCEPTIONS,
    Pin,
    audit,
    faults_of_environment,
    faults_of_files,
    faults_of_licences,
    read_pins,
)

HASH = "--hash=sha256:" + "0" * 64


def test_nothing_is_wrong_with_what_we_depend_on() -> None:
    assert audit() == []


def test_every_exception_is_of_something_that_is_there() -> None:
    pinned = {pin.name for pin in read_pins_of_all()}
    assert set(EXCEPTIONS) <= pinned


def read_pins_of_all() -> list[Pin]:
    from tests.dependencies import FILES, ROOT

    return [pin for file in FILES for pin in read_pins((ROOT / "requirements" / f"{file}.txt").read_text())[0]]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (f"a==1 \\\n    {HASH}", []),
        (f"a==1 ; python_version < '3.12' \\\n    {HASH}\na==2 ; python_version >= '3.12' \\\n    {HASH}", []),
        ("a==1", ["has no hash"]),
        (f"a>=1 {HASH}", ["is no pin"]),
        (f"a @ https://example.org/a.whl {HASH}", ["is no pin"]),
        ("--index-url https://example.org", ["is no pin"]),
        (f"-e . {HASH}", ["is no pin"]),
        (f"a==1 {HASH}\nA==1 {HASH}", ["pinned twice"]),
        (f"a==1 {HASH}\na==2 {HASH}", ["pinned twice", "different files"]),
    ],
)
def test_what_is_no_pin_is_told(line: str, told: list[str]) -> None:
    faults = list(faults_of_files({"x.txt": line}))
    assert len(faults) == len(told)
    assert all(part in fault for part, fault in zip(told, faults, strict=True))


def test_another_version_than_the_pinned_is_told() -> None:
    pins = [Pin(pin.name, "0.0.1" if pin.name == "httpx" else pin.version, pin.marker, 1) for pin in read_pins_of_all()]
    assert [fault.split()[0] for fault in faults_of_environment(pins)] == ["httpx"]
    without = [pin for pin in pins if pin.name != "httpx"]
    assert "pinned nowhere" in next(iter(faults_of_environment(without)))


class _Package(metadata.Distribution):
    def __init__(self, **about: str) -> None:
        self._about = Message()
        for name, value in {"Name": "some-package", "Version": "1", **about}.items():
            self._about[name.replace("_", "-")] = value

    @property
    def metadata(self) -> Message:  # type: ignore[override]  # a message is what the protocol is made of
        return self._about

    def read_text(self, filename: str) -> str | None:
        return None

    def locate_file(self, path: object) -> None:  # type: ignore[override]  # nothing of it is on a disk
        return None


@pytest.mark.parametrize(
    ("about", "good"),
    [
        ({"License_Expression": "MIT"}, True),
        ({"License_Expression": "(MIT OR Apache-2.0) AND BSD-3-Clause"}, True),
        ({"Classifier": "License :: OSI Approved :: MIT License"}, True),
        ({"License": "BSD"}, True),
        ({"License_Expression": "AGPL-3.0-only"}, False),
        ({"License_Expression": "MIT AND GPL-3.0-only"}, False),
        ({"Classifier": "License :: Other/Proprietary License"}, False),
        ({}, False),
    ],
)
def test_a_licence_nobody_agreed_to_is_told(about: dict[str, str], good: bool) -> None:
    assert (list(faults_of_licences([_Package(**about)])) == []) is good
