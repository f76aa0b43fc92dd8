"""The keyring: made once, kept private, versions and purposes apart."""

import hmac
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.keyring import Keyring, KeyringError, Purpose, create_keyring, create_private_file, load_keyring

ONE, TWO = bytes(32), bytes([1]) * 32


def test_created_once_and_readable_by_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "a folder" / "keyring.json"
    first = create_keyring(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert create_keyring(path) == first == load_keyring(path)
    assert [file.name for file in path.parent.iterdir()] == ["keyring.json"]


def test_processes_that_race_end_with_one_keyring(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        rings = list(pool.map(lambda _: create_keyring(tmp_path / "keyring.json"), range(8)))
    assert all(ring == rings[0] for ring in rings)


def test_a_private_file_is_never_replaced(tmp_path: Path) -> None:
    assert create_private_file(tmp_path / "f", b"first")
    assert not create_private_file(tmp_path / "f", b"second")
    assert (tmp_path / "f").read_bytes() == b"first"


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=300))
def test_a_tag_is_the_documented_hmac(root: bytes, message: bytes) -> None:
    ring = Keyring(2, {1: root, 2: TWO})
    keys: dict[Purpose, bytes] = {"event": root, "subject": root, "cursor": TWO}
    for purpose, key in keys.items():
        derived = hmac.digest(key, b"tanpuhui/" + purpose.encode(), "sha256")
        expected = hmac.digest(derived, message, "sha256")
        assert ring.tag(purpose, message) == ring.tag(purpose, message) == expected


def test_purposes_and_versions_give_different_tags() -> None:
    ring = Keyring(2, {1: ONE, 2: TWO})
    tags = {ring.tag(purpose, b"m", version) for purpose in ("event", "subject", "cursor") for version in (1, 2)}
    assert len(tags) == 6
    assert ring.tag("cursor", b"m") == ring.tag("cursor", b"m", 2)
    assert ring.versions == (2, 1)


def test_rotation_changes_no_tag_that_must_be_found_again() -> None:
    before, after = Keyring(1, {1: ONE}), Keyring(2, {1: ONE, 2: TWO})
    for purpose in ("event", "subject", "fingerprint", "claim"):
        assert before.tag(purpose, b"m") == after.tag(purpose, b"m")
    assert after.lasting == before.lasting == 1
    assert before.tag("cursor", b"m") != after.tag("cursor", b"m")


def test_no_key_in_its_text() -> None:
    ring = Keyring(1, {1: TWO})
    ring.tag("event", b"")
    assert "01" not in repr(ring)
    assert "keys" not in repr(ring)


@pytest.mark.parametrize(("current", "keys"), [(2, {1: ONE}), (1, {1: bytes(31)}), (1, {1: bytes(33)})])
def test_a_keyring_that_cannot_work_is_refused(current: int, keys: dict[int, bytes]) -> None:
    with pytest.raises(KeyringError):
        Keyring(current, keys)


def test_an_unknown_version_is_named() -> None:
    with pytest.raises(KeyringError, match=r"versions \[1\], not 3"):
        Keyring(1, {1: ONE}).key(3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"current": 1, "keys": []}',
        '{"current": 1, "keys": {"1": "?"}}',
        json.dumps({"current": True, "keys": {"1": "A" * 43 + "="}}),
    ],
)
def test_what_is_no_keyring_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keyring.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(KeyringError):
        load_keyring(path)


def test_a_missing_or_open_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(KeyringError, match="put the platform's keyring there"):
        load_keyring(tmp_path / "none.json")
    create_keyring(tmp_path / "keyring.json")
    (tmp_path / "keyring.json").chmod(0o604)
    with pytest.raises(KeyringError, match="chmod 600"):
        load_keyring(tmp_path / "keyring.json")
