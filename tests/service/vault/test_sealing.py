"""What is sealed opens under its owner's key, as what it is and where it belongs, and not otherwise."""

import base64
import json
import os
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.keyring import create_private_file
from service.vault import (
    DataKey,
    Vault,
    VaultError,
    create_master_file,
    load_master_file,
    open_evidence,
    open_facts,
    open_terms,
    open_words,
    seal_evidence,
    seal_facts,
    seal_terms,
    seal_words,
)
from service.vault import vault as sealing
from service.vault.master import add_master, check_value, remove_masters
from service.vault.vault import SealBroken
from tests.running import vault_for_tests

OWNER, OTHER, ROW = UUID(int=1), UUID(int=2), UUID(int=3)
SALT = bytes(range(32))


def key_of(owner: UUID = OWNER) -> DataKey:
    return vault_for_tests().new_key(owner, 1)[1]


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=9_000), st.none() | st.binary(min_size=1, max_size=99))
def test_evidence_comes_back_as_it_was(salt: bytes, document: bytes, refusal: bytes | None) -> None:
    key = key_of()
    sealed = seal_evidence(key, ROW, salt, document, refusal)
    opened = open_evidence(key, ROW, sealed)
    assert (opened.salt, opened.document, opened.refusal) == (salt, document, refusal)
    assert salt not in sealed
    assert len(document) < 8 or document not in sealed


def test_a_long_document_is_deflated_and_a_short_one_is_not() -> None:
    key, long = key_of(), b'{"0.25":"0.25"}' * 1_000
    assert len(seal_evidence(key, ROW, SALT, long, None)) < len(long) // 10
    assert len(seal_evidence(key, ROW, SALT, b"{}", None)) == 1 + 12 + 32 + 4 + 2 + 16
    edge = sealing.COMPRESSED_BEYOND - 36
    assert seal_evidence(key, ROW, SALT, bytes(edge), None)[:1] == b"\x01"
    assert seal_evidence(key, ROW, SALT, bytes(edge + 1), None)[:1] == b"\x02"


def test_what_was_moved_or_changed_does_not_open() -> None:
    key = key_of()
    sealed = seal_evidence(key, ROW, SALT, b"{}", None)
    for place in range(len(sealed)):
        with pytest.raises(SealBroken):
            open_evidence(key, ROW, sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :])
    for length in (0, 1, 12, 13, 28, len(sealed) - 1):
        with pytest.raises(SealBroken):
            open_evidence(key, ROW, sealed[:length])
    with pytest.raises(SealBroken):
        open_evidence(key, uuid4(), sealed)  # another row of the same person
    with pytest.raises(SealBroken):
        open_evidence(key_of(), ROW, sealed)  # under another key
    for opens in (open_facts, open_terms):
        with pytest.raises(SealBroken):
            opens(key, ROW, sealed)  # as something else


def test_the_same_text_is_never_sealed_alike() -> None:
    """A batch that is tried again seals the same row again: under one nonce two texts would show each other."""
    key = key_of()
    seals = [seal_evidence(key, ROW, SALT, b"{}", None) for _ in range(200)]
    assert len({sealed[1:13] for sealed in seals}) == len(set(seals)) == 200


def test_every_kind_comes_back() -> None:
    key = key_of()
    assert open_facts(key, ROW, seal_facts(key, ROW, SALT, b"facts")).document == b"facts"
    assert open_terms(key, ROW, seal_terms(key, ROW, SALT, b"terms")).salt == SALT
    words = seal_words(key, ROW, 2, "没有收到 nothing came")
    assert open_words(key, ROW, 2, words) == "没有收到 nothing came"
    with pytest.raises(SealBroken):
        open_words(key, ROW, 1, words)
    with pytest.raises(ValueError, match="32 bytes"):
        seal_evidence(key, ROW, SALT[:31], b"{}", None)


def test_a_data_key_opens_for_its_owner_alone(tmp_path: Path) -> None:
    vault = Vault(vault_file(tmp_path / "masters"))
    wrapped, key = vault.new_key(OWNER, 1)
    assert len(wrapped) == 60
    assert vault.key(OWNER, 1, wrapped).open(b"x", b"", key.seal(b"x", b"", b"text")) == b"text"
    with pytest.raises(VaultError, match=str(OTHER)):
        vault.key(OTHER, 1, wrapped)  # whoever may write rows gives nobody another's key
    with pytest.raises(VaultError, match="not 2"):
        vault.key(OTHER, 2, wrapped)
    assert str(OWNER) in repr(key)
    assert wrapped.hex() not in repr(key)


def test_a_key_that_was_replaced_is_opened_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "KEYS_IN_USE", 3)
    vault = Vault(vault_file(tmp_path / "masters"))
    first, key = vault.new_key(OWNER, 1)
    again, other = vault.new_key(OWNER, 1)
    assert vault.key(OWNER, 1, first) is vault.key(OWNER, 1, first)
    sealed = other.seal(b"x", b"", b"text")
    assert vault.key(OWNER, 1, again).open(b"x", b"", sealed) == b"text"
    with pytest.raises(SealBroken):
        vault.key(OWNER, 1, first).open(b"x", b"", sealed)
    owners = [uuid4() for _ in range(5)]
    for owner in owners:
        vault.key(owner, 1, vault.new_key(owner, 1)[0])
    assert len(vault._in_use) == 3
    vault.drop(owners)
    assert not vault._in_use
    assert key.owner == OWNER


def vault_file(path: Path) -> Path:
    """A file with one key."""
    document = {"keys": {"1": base64.b64encode(os.urandom(32)).decode()}}
    create_private_file(path, json.dumps(document).encode())
    return path


def test_a_file_is_made_once_and_grows_and_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "vault.keys.json"
    first = create_master_file(path)
    assert create_master_file(path) == first == load_master_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert (add_master(path), add_master(path)) == (2, 3)
    assert load_master_file(path)[1] == first[1]
    assert remove_masters(path, 3) == [1, 2]
    assert list(load_master_file(path)) == [3]
    assert remove_masters(path, 3) == []
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["vault.keys.json"]
    assert check_value(first[1]) != first[1]


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"keys": {}}', '{"keys": {"1": "AA=="}}', '{"keys": {"x": "AA=="}}', '{"keys": {"0": "%s"}}'],
)
def test_what_is_no_file_of_keys_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "vault.keys.json"
    create_private_file(path, text.replace("%s", base64.b64encode(bytes(32)).decode()).encode())
    with pytest.raises(VaultError):
        load_master_file(path)


def test_a_file_that_is_missing_or_open_to_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match="vault init"):
        load_master_file(tmp_path / "none")
    path = vault_file(tmp_path / "open")
    path.chmod(0o604)
    with pytest.raises(VaultError, match="chmod 600"):
        load_master_file(path)
