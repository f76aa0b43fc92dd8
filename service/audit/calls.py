"""The calls that banks signed, as they lie beside the log: each held against the entry that names it."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256, sha512
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote
from uuid import UUID

import orjson

from ledger.tiles import Tile
from ledger.verify.jwk import public_of, thumbprint, verify_bytes

_FIELDS = {"base", "body", "content_digest", "index", "jwk", "kid", "method", "path", "signature"}
_DIGEST = re.compile(r"(sha-256|sha-512)=:([A-Za-z0-9+/]+=*):")
_ENTRIES = "tile/entries/"
_REQUESTS = ("", "v1", "bank", "requests")
_REDEMPTIONS = ("", "v1", "bank", "redemptions")
_REDEMPTION = len(_REDEMPTIONS)  # the place of a redemption's id in a path


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


class Shown(NamedTuple):
    """A call as the ground of an entry.

    entry       the entry's index
    call        SHA-256 of what was signed, hex, or the entry's `signature` where the call is not there: the same for
                one call
    redemption  the redemption that the path of a refund's call names
    whole       whether a capture's call asks for all that is left
    """

    entry: int
    call: str
    redemption: str = ""
    whole: bool = False


def shown_for(index: int, call: Mapping[str, Any] | None, leaf: Mapping[str, Any]) -> Shown:
    """What a call, of which fault_of() found nothing, is the ground of; None stands for a call that is not there or is
    none."""
    if call is None:
        return Shown(index, leaf["signature"])
    signed = sha256(call["base"].encode("ascii")).hexdigest()
    if leaf["kind"] == "refund":
        return Shown(index, signed, str(_identity(call["path"].split("/")[_REDEMPTION])))
    return Shown(index, signed, whole=leaf["kind"] == "capture" and _body(call).get("units") is None)


def fault_of(
    call: Mapping[str, Any], leaf: Mapping[str, Any], keys: Mapping[str, frozenset[str]], offer: str | None = None
) -> str | None:
    """What is wrong with a call as the ground of an entry; None where nothing is.

    keys   by bank: thumbprints of its keys
    offer  the id of a hold's offer, as its document says; None where that is not there
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
        erased = is_erased(call)
        if not erased and not is_of(call["content_digest"], base64.b64decode(call["body"], validate=True)):
            return "another body than the one that was signed"
        if call["method"] != "POST" or not _leads_to(call["path"], leaf):
            return f"a call for something else, {call['method']} {call['path']}"
        for name, asked, wanted in () if erased else _asked(_body(call), leaf, offer):
            if asked != wanted:
                return f"a call with {name} {asked}"
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        return str(error) or type(error).__name__
    return None


def is_erased(call: Mapping[str, Any]) -> bool:
    """Whether the body was erased with the person it named: the signature is there, and what it asked for is not.

    Only the request that a hold rests on names anybody.
    """
    return call["body"] is None and str(call["path"]).split("/")[: len(_REQUESTS)] == list(_REQUESTS)


def is_of(digest: str, body: bytes) -> bool:
    """Whether a Content-Digest, in the form that was signed, is that of a body."""
    named = dict(_DIGEST.findall(digest))
    made = {"sha-256": sha256(body).digest(), "sha-512": sha512(body).digest()}
    return bool(named) and all(base64.b64decode(value) == made[name] for name, value in named.items())


def _body(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """What it asks for. Raises ValueError for a body that is no object."""
    asked = orjson.loads(base64.b64decode(call["body"]) or b"{}")
    if not isinstance(asked, dict):
        raise ValueError("a body that is no object")
    return asked


def _leads_to(path: str, leaf: Mapping[str, Any]) -> bool:
    """Whether a path is the one of this kind and reason. Ids may be written in any form; the redemption of a refund is
    any, and is looked at with the other entries."""
    wanted: tuple[str | UUID | None, ...]
    match leaf["kind"], leaf.get("reason"):
        case ("hold", _):
            wanted = _REQUESTS
        case ("capture", _) | ("release", "rest"):
            wanted = (*_REDEMPTIONS, UUID(leaf["hold"]), "capture")
        case ("release", "voided"):
            wanted = (*_REDEMPTIONS, UUID(leaf["hold"]), "void")
        case ("refund", _):
            wanted = (*_REDEMPTIONS, None, "captures", UUID(leaf["reverses"]), "refund")
        case ("statement", _):
            wanted = ("", "v1", "statements", leaf["day"], "closing")
        case _:
            return False
    parts = path.split("/")
    if len(parts) != len(wanted):
        return False
    for part, each in zip(parts, wanted, strict=True):
        found = unquote(part) if isinstance(each, str) else _identity(part)
        if found is None or (each is not None and found != each):
            return False
    return True


def _asked(body: Mapping[str, Any], leaf: Mapping[str, Any], offer: str | None) -> Iterator[tuple[str, object, object]]:
    """What the body asks for by name, and what the entry says; units of a capture may be left to the hold."""
    kind, units = leaf["kind"], body.get("units")
    if kind == "hold":
        yield "units", str(units), leaf["units"]
        yield "offer", body.get("offer"), offer if offer is not None else body.get("offer")
    elif kind == "capture" and units is not None:
        yield "units", str(units), leaf["units"]
    elif kind == "release" and leaf["reason"] == "rest":
        yield "final", body.get("final"), True
    elif kind == "refund":
        yield "reason", body.get("reason"), leaf["reason"]
    elif kind == "statement":
        yield "statement", body.get("statement"), leaf["digest"]
        yield "file", body["file"], leaf["file"]


def _identity(part: str) -> UUID | None:
    """A part of a path as an id, however the bank wrote it."""
    try:
        return UUID(unquote(part))
    except ValueError:
        return None
