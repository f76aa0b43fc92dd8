"""Reading a leaf: the one canonical form of a known kind, every field checked, or a refusal that names the field."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ledger.errors import LeafInvalid
from ledger.journal import (
    AMOUNT_MAX,
    ASSETS,
    CREDIT_CLASSES,
    PARTICIPANT_ACCOUNTS,
    PARTICIPANT_KINDS,
    SYSTEM_ACCOUNTS,
)
from ledger.leaves import LEAF_MAX_BYTES, VERSION, utc_second
from ledger.notices import (
    ALGORITHMS,
    DOCUMENT_KINDS,
    KEY_ACTIONS,
    LISTED_KINDS,
    LISTING_ACTIONS,
    POOL_ACTIONS,
    STATEMENT_STATES,
)

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_HEX64 = re.compile(r"[0-9a-f]{128}")
_HEX32 = re.compile(r"[0-9a-f]{64}")
_HEX16 = re.compile(r"[0-9a-f]{32}")
_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
_COUNT = re.compile(r"0|[1-9][0-9]{0,18}")
_SIGNED = re.compile(r"-?[1-9][0-9]{0,18}")
_YEAR = re.compile(r"[12][0-9]{3}")
_CODE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_KEY_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")  # a thumbprint in base64url fits
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!#-\[\]-~]{1,500}")
_NAME = re.compile(r"[!#-\[\]-~]{1,500}")
_CLAIM = re.compile(r"[1-9][0-9]{0,4}:[0-9a-f]{64}")

Check = Callable[[object], bool]


def _like(pattern: re.Pattern[str]) -> Check:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _among(names: Sequence[str]) -> Check:
    return lambda value: isinstance(value, str) and value in names


def _amount(value: object) -> bool:
    return isinstance(value, str) and _NUMBER.fullmatch(value) is not None and int(value) <= AMOUNT_MAX


def _count(value: object) -> bool:
    return isinstance(value, str) and _COUNT.fullmatch(value) is not None and int(value) <= AMOUNT_MAX


def _signed(value: object) -> bool:
    return isinstance(value, str) and _SIGNED.fullmatch(value) is not None and abs(int(value)) <= AMOUNT_MAX


def _moment(form: str) -> Check:
    def check(value: object) -> bool:
        if not isinstance(value, str):
            return False
        try:
            read = datetime.strptime(value, form).replace(tzinfo=UTC)
        except ValueError:
            return False
        return (utc_second(read) if "%H" in form else read.date().isoformat()) == value

    return check


def _none_or(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _claims(value: object) -> bool:
    return isinstance(value, list) and all(map(_like(_CLAIM), value)) and value == sorted(set(value))


def _approvals(value: object) -> bool:
    if not isinstance(value, list) or not value:
        return False
    for entry in value:
        if not _object(entry, _APPROVAL):
            return False
    roles, approvers = [entry["role"] for entry in value], {entry["approver"] for entry in value}
    return roles == sorted(set(roles)) and len(approvers) == len(roles)


def _approvers(value: object) -> bool:
    return isinstance(value, list) and all(map(_like(_CODE), value)) and value == sorted(set(value))


def _former(value: object) -> bool:
    return value is None or _object(value, _FORMER)


def _totals(value: object) -> bool:
    if not isinstance(value, list) or not all(_object(entry, _TOTAL) for entry in value):
        return False
    keys = [(entry["asset"], entry["account"]) for entry in value]
    return keys == sorted(set(keys))


def _public_key(value: object) -> bool:
    return isinstance(value, str) and (_HEX32.fullmatch(value) or _HEX64.fullmatch(value)) is not None


def _object(value: object, checks: Mapping[str, Check]) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == checks.keys()
        and all(check(value[name]) for name, check in checks.items())
    )


_DAY = _moment("%Y-%m-%d")
_ACCOUNTS = PARTICIPANT_ACCOUNTS + SYSTEM_ACCOUNTS

_LINE: dict[str, Check] = {
    "amount": _amount,
    "asset": _among(ASSETS),
    "from": _among(_ACCOUNTS),
    "to": _among(_ACCOUNTS),
}
_LINE_OF: dict[str, dict[str, Check]] = {
    "points": _LINE | {"expires": _none_or(_DAY)},
    "co2e_mg": _LINE | {"class": _among(CREDIT_CLASSES), "vintage": _like(_YEAR)},
}
_APPROVAL: dict[str, Check] = {
    "approver": _like(_CODE),
    "key": _like(_KEY_ID),
    "public_key": _like(_HEX32),
    "role": _like(_CODE),
    "signature": _like(_HEX64),
    "signed_on": _DAY,
}
_FORMER: dict[str, Check] = {
    "checkpoint": _like(_HEX32),
    "kept": _count,
    "origin": _like(_NAME),
    "root": _like(_HEX32),
    "size": _count,
}
_TOTAL: dict[str, Check] = {"account": _among(_ACCOUNTS), "amount": _signed, "asset": _among(ASSETS)}
_SECOND = _moment("%Y-%m-%dT%H:%M:%SZ")
_EVERY: dict[str, Check] = {
    "at": _SECOND,
    "kind": lambda value: isinstance(value, str) and value in _FIELDS,
    "nonce": _like(_HEX16),
    "programme": _like(_CODE),
    "v": _among([VERSION]),
}
_ENVELOPE: dict[str, Check] = _EVERY | {
    "counter": _amount,
    "day": _DAY,
    "lines": lambda value: isinstance(value, list) and len(value) > 0,
    "participant": _like(_UUID),
    "participant_kind": _among(PARTICIPANT_KINDS),
    "region": _like(_CODE),
    "transfer": _like(_UUID7),
}
_STEP: dict[str, Check] = {
    "bank": _like(_URI),
    "pool": _like(_CODE),
    "signature": _none_or(_like(_HEX32)),
    "units": _amount,
    "value": _count,
}
_DECIDED: dict[str, Check] = {
    "authority": _like(_CODE),
    "decision": _none_or(_like(_HEX32)),
    "reason": _like(_CODE),
}
_FIELDS: dict[str, dict[str, Check]] = {
    "credit": _ENVELOPE
    | {
        "activity": _like(_UUID7),
        "claims": _claims,
        "evidence": _like(_HEX32),
        "grade": _among(("A", "B", "C")),
        "methodology": _like(_HEX32),
        "points_rule": _none_or(_like(_HEX32)),
        "replaces": _none_or(_like(_UUID7)),
        "signature": _none_or(_like(_HEX32)),
        "source": _like(_URI),
    },
    "reversal": _ENVELOPE
    | {
        "authority": _like(_CODE),
        "decision": _none_or(_like(_HEX32)),
        "reason": _like(_CODE),
        "reverses": _like(_UUID7),
        "signature": _none_or(_like(_HEX32)),
    },
    "lapse": _ENVELOPE,
    "maturity": _ENVELOPE
    | {
        "authority": _like(_CODE),
        "awaited": _like(_CODE),
        "facts": _none_or(_like(_HEX32)),
        "matures": _like(_UUID7),
        "points_rule": _none_or(_like(_HEX32)),
        "signature": _none_or(_like(_HEX32)),
        "source": _none_or(_like(_URI)),
    },
    "hold": _ENVELOPE
    | _STEP
    | {
        "expires_at": _SECOND,
        "offer": _like(_HEX32),
        "terms": _like(_HEX32),
    },
    "capture": _ENVELOPE | _STEP | {"hold": _like(_UUID7), "signature": _like(_HEX32)},
    "release": _ENVELOPE | _STEP | _DECIDED | {"hold": _like(_UUID7)},
    "refund": _ENVELOPE | _STEP | _DECIDED | {"reverses": _like(_UUID7)},
    "rule": _EVERY
    | {
        "approvals": _approvals,
        "digest": _like(_HEX32),
        "document_kind": _among(DOCUMENT_KINDS),
        "id": _like(_CODE),
        "status": _like(_CODE),
        "version": _amount,
    },
    "manifest": _EVERY
    | {
        "day": _DAY,
        "digest": _like(_HEX32),
        "key": _like(_HEX32),
        "received": _like(_HEX32),
        "region": _like(_CODE),
        "sequence": _amount,
        "source": _like(_URI),
    },
    "key": _EVERY
    | {
        "action": _among(KEY_ACTIONS),
        "algorithm": _among(ALGORITHMS),
        "holder": _like(_CODE),
        "key": _like(_HEX32),
        "name": _like(_NAME),
        "public_key": _public_key,
        "since": _SECOND,
    },
    "epoch": _EVERY | {"former": _former, "number": _amount, "origin": _like(_NAME), "reason": _none_or(_like(_CODE))},
    "pool": _EVERY
    | {
        "action": _among(POOL_ACTIONS),
        "funder": _like(_URI),
        "points": _count,
        "pool": _like(_CODE),
        "reason": _none_or(_like(_CODE)),
        "signature": _none_or(_like(_HEX32)),
        "terms": _like(_HEX32),
        "value": _count,
    },
    "listing": _EVERY
    | {
        "action": _among(LISTING_ACTIONS),
        "approvers": _approvers,
        "digest": _like(_HEX32),
        "document_kind": _among(LISTED_KINDS),
        "id": _like(_CODE),
        "reason": _none_or(_like(_CODE)),
        "version": _amount,
    },
    "statement": _EVERY
    | {
        "authority": _none_or(_like(_CODE)),
        "bank": _like(_URI),
        "day": _DAY,
        "digest": _like(_HEX32),
        "file": _none_or(_like(_HEX32)),
        "sequence": _amount,
        "signature": _none_or(_like(_HEX32)),
        "size": _count,
        "state": _among(STATEMENT_STATES),
    },
    "seal": _EVERY | {"day": _DAY, "participants": _count, "root": _like(_HEX32), "size": _count, "totals": _totals},
}


def read_leaf(leaf: bytes) -> dict[str, Any]:
    """The fields of a leaf of version 1, checked one by one.

    Raises LeafInvalid when the bytes are not the one canonical form of a known kind; the message names the field.
    """
    if not 0 < len(leaf) <= LEAF_MAX_BYTES:
        raise LeafInvalid(f"a leaf has 1 to {LEAF_MAX_BYTES} bytes, not {len(leaf)}")
    try:
        fields = json.loads(leaf.decode("ascii"))
    except (ValueError, RecursionError) as wrong:
        raise LeafInvalid(f"a leaf is JSON in ASCII: {wrong}") from None
    if not isinstance(fields, dict) or fields.get("v") != VERSION:
        raise LeafInvalid(f'expected an object with "v":"{VERSION}"')
    kind = fields.get("kind")
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise LeafInvalid(f"kind is one of {', '.join(_FIELDS)}, not {kind!r}")
    _check(fields, _FIELDS[kind], kind)
    for number, line in enumerate(fields.get("lines", ())):  # a rule and a manifest move nothing
        asset = line.get("asset") if isinstance(line, dict) else None
        if not isinstance(asset, str) or asset not in _LINE_OF:
            raise LeafInvalid(f"lines[{number}] names one of the assets {', '.join(_LINE_OF)}, not {asset!r}")
        _check(line, _LINE_OF[asset], f"lines[{number}]")
    _agree(fields)
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if canonical.encode("ascii", "replace") != leaf:
        raise LeafInvalid("the bytes are not the canonical form of their fields")
    return fields


def _agree(fields: Mapping[str, Any]) -> None:
    """What two fields of one leaf say must fit together."""
    if fields["kind"] in ("release", "refund") and (fields["authority"] == "bank") == (fields["signature"] is None):
        raise LeafInvalid(f"{fields['kind']}: signature is there where, and only where, the bank is the authority")
    if fields["kind"] == "hold" and fields["expires_at"] <= fields["at"]:
        raise LeafInvalid("hold: expires_at is not after at")
    if fields["kind"] == "pool" and (fields["action"] in ("suspended", "closed")) == (fields["reason"] is None):
        raise LeafInvalid("pool: a reason is there where, and only where, it was suspended or closed")
    if fields["kind"] == "statement":
        _agree_statement(fields)
    if fields["kind"] == "listing":
        if fields["action"] == "listed" and len(fields["approvers"]) < 2:
            raise LeafInvalid("listing: approvers are two at least where a document is listed")
        if (fields["action"] in ("suspended", "taken_down")) == (fields["reason"] is None):
            raise LeafInvalid("listing: a reason is there where, and only where, something was suspended or taken down")
    if fields["kind"] == "key" and len(fields["public_key"]) != (64 if fields["algorithm"] == "ed25519" else 128):
        raise LeafInvalid(f"key: public_key has another length than a key of {fields['algorithm']}")
    if fields["kind"] == "epoch":
        former = fields["former"]
        if len({former is None, fields["reason"] is None, fields["number"] == "1"}) > 1:
            raise LeafInvalid("epoch: the first has no former log and no reason, every further one has both")
        if former is not None and int(former["kept"]) > int(former["size"]):
            raise LeafInvalid("epoch: former.kept is more than former.size")


def _agree_statement(fields: Mapping[str, Any]) -> None:
    if (fields["state"] == "closed") == (fields["authority"] is None):
        raise LeafInvalid("statement: authority is there where, and only where, it is closed")
    if fields["state"] == "issued" and (fields["file"], fields["signature"]) != (None, None):
        raise LeafInvalid("statement: an issued one has no file and no signature")


def _check(fields: Mapping[str, object], checks: Mapping[str, Check], where: str) -> None:
    if fields.keys() != checks.keys():
        missing, unknown = sorted(checks.keys() - fields.keys()), sorted(fields.keys() - checks.keys())
        raise LeafInvalid(f"{where}: missing fields {missing}, unknown fields {unknown}")
    for name, check in checks.items():
        if not check(fields[name]):
            raise LeafInvalid(f"{where}: {name} cannot be {fields[name]!r}")
