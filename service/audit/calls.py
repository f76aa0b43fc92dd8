"""The calls that banks signed, as they lie beside the log: each held against the entry that names it."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256, sha512
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import orjson

from ledger.tiles import Tile
from ledger.verify.jwk import public_of, thumbprint, verify_bytes

_FIELDS = {"base", "body", "content_digest", "index", "jwk", "kid", "method", "path", "signature"}
_DIGEST = re.compile(r"(sha-256|sha-512)=:([A-Za-z0-9+/]+=*):")
_ENTRIES = "tile/entries/"


def calls_path(number: int) -> str:
    """The file of a chunk's signed calls, grouped as the paths of tiles are."""
    return f"calls/{Tile(None, number).path.removeprefix(_ENTRIES)}.jsonl"


def read_calls(path: Path) -> tuple[dict[int, dict[str, Any]], list[str]]:
    """The calls of a chunk by the index of their entry, and the lines that are none."""
    found: dict[int, dict[str, Any]] = {}
    strays = []
    for number, line in enumerate(_lines(path), start=1):
        try:
            fields = orjson.loads(line)
            index = int(fields["index"])
            if fields.keys() != _FIELDS or index in found:
                raise ValueError
            found[index] = fields
        except (ValueError, KeyError, TypeError, AttributeError):
            strays.append(f"line {number}")
    return found, strays


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except OSError:
        return


def fault_of(call: Mapping[str, Any], leaf: Mapping[str, Any], keys: Mapping[str, frozenset[str]]) -> str | None:
    """What is wrong with a call as the ground of an entry; None where nothing is.

    keys   by bank: thumbprints of its keys
    """
    try:
        base, signature = str(call["base"]).encode("ascii"), bytes.fromhex(call["signature"])
        if sha256(base + b"\n" + signature).hexdigest() != leaf["signature"]:
            return "another call than the entry names"
        algorithm, public = public_of(call["jwk"])
        if thumbprint(algorithm, public) not in keys.get(leaf["bank"], ()):
            return "a key that is not the bank's"
        verify_bytes(algorithm, public, signature, base)
        covered = dict(line.split(": ", 1) for line in base.decode("ascii").split("\n"))
        told = {"@method": "method", "@path": "path", "content-digest": "content_digest"}
        for name, mine in told.items():
            if covered.get(f'"{name}"') != call[mine]:
                return f"{mine} is not the one that was signed"
        if not _is_of(call["content_digest"], base64.b64decode(call["body"], validate=True)):
            return "another body than the one that was signed"
        return _about(call, leaf)
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        return str(error) or type(error).__name__


def _is_of(digest: str, body: bytes) -> bool:
    named = dict(_DIGEST.findall(digest))
    made = {"sha-256": sha256(body).digest(), "sha-512": sha512(body).digest()}
    return bool(named) and all(base64.b64decode(value) == made[name] for name, value in named.items())


def _about(call: Mapping[str, Any], leaf: Mapping[str, Any]) -> str | None:
    """Whether it is about this entry: the redemption or the capture stands in its path, units and reason in its
    body."""
    named = leaf.get("hold") or leaf.get("reverses")
    if named is not None and UUID(named) not in map(_identity, unquote(str(call["path"])).split("/")):
        return f"a call about something else than {named}"
    if leaf["kind"] in ("capture", "refund"):
        said = orjson.loads(base64.b64decode(call["body"]) or b"{}")
        for name in ("units", "reason"):
            if said.get(name) is not None and name in leaf and str(said[name]) != leaf[name]:
                return f"a call with {name} {said[name]}"
    return None


def _identity(part: str) -> UUID | None:
    """A part of a path as an id, however the bank wrote it."""
    try:
        return UUID(part)
    except ValueError:
        return None
