"""A bank's signed call as the ground of an entry: of its method, path and body, for one step and no other."""

import base64
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.verify.findings import Findings
from ledger.verify.jwk import public_of, thumbprint
from service.audit.calls import Shown, fault_of, shown_for
from service.audit.redemptions import check_calls
from service.audit.steps import Step
from tests.log.histories import jwk_of

KEY = Ed25519PrivateKey.from_private_bytes(bytes([5] * 32))
JWK = jwk_of(KEY.public_key().public_bytes_raw())
BANK = "https://bank.example/green"
KEYS = {BANK: frozenset({thumbprint(*public_of(JWK))})}
HOLD, CAPTURE = "01936f5c-0000-7000-8000-000000000002", "01936f5c-0000-7000-8000-000000000003"
OTHER = "01936f5c-0000-7000-8000-000000000009"
AB, CD = "ab" * 32, "cd" * 32
OF_HOLD = f"/v1/bank/redemptions/{HOLD}"
REFUND = f"{OF_HOLD}/captures/{CAPTURE}/refund"

# By name: the leaf, the path of its call and its body.
GOOD: dict[str, tuple[dict[str, Any], str, Any]] = {
    "hold": ({"kind": "hold", "units": "5"}, "/v1/bank/requests", {"offer": "loan", "units": 5, "reference": "r"}),
    "capture": ({"kind": "capture", "hold": HOLD, "units": "2"}, f"{OF_HOLD}/capture", {"units": 2, "final": False}),
    "capture of all": ({"kind": "capture", "hold": HOLD, "units": "2"}, f"{OF_HOLD}/capture", {}),
    "rest": ({"kind": "release", "reason": "rest", "hold": HOLD, "units": "1"}, f"{OF_HOLD}/capture", {"final": True}),
    "void": ({"kind": "release", "reason": "voided", "hold": HOLD, "units": "3"}, f"{OF_HOLD}/void", {}),
    "refund": ({"kind": "refund", "reason": "cancelled", "reverses": CAPTURE}, REFUND, {"reason": "cancelled"}),
    "closing": (
        {"kind": "statement", "day": "2026-05-01", "digest": AB, "file": CD},
        "/v1/statements/2026-05-01/closing",
        {"statement": AB, "file": CD},
    ),
    "closing without a file": (
        {"kind": "statement", "day": "2026-05-01", "digest": AB, "file": None},
        "/v1/statements/2026-05-01/closing",
        {"statement": AB, "file": None, "bank": BANK},
    ),
}  # fmt: skip


def signed(
    leaf: Mapping[str, Any], path: str, body: Any, method: str = "POST"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A call that the bank signed, and the leaf that names it."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    digest = f"sha-256=:{base64.b64encode(sha256(content).digest()).decode()}:"
    base = f'"@method": {method}\n"@path": {path}\n"content-digest": {digest}\n"@signature-params": ("@method")'
    signature = KEY.sign(base.encode())
    call = {
        "base": base, "body": base64.b64encode(content).decode(), "content_digest": digest, "jwk": JWK,
        "method": method, "path": path, "signature": signature.hex(),
    }  # fmt: skip
    return call, {**leaf, "bank": BANK, "signature": sha256(base.encode() + b"\n" + signature).hexdigest()}


def fault(
    leaf: Mapping[str, Any], path: str, body: Any, method: str = "POST", offer: str | None = "loan"
) -> str | None:
    return fault_of(*signed(leaf, path, body, method), KEYS, offer)


@pytest.mark.parametrize("name", GOOD)
def test_a_call_is_the_ground_of_its_step(name: str) -> None:
    assert fault(*GOOD[name]) is None


@pytest.mark.parametrize("name", GOOD)
def test_a_call_is_a_post(name: str) -> None:
    for method in ("PUT", "GET", "post"):
        assert "something else" in str(fault(*GOOD[name], method))


@pytest.mark.parametrize("name", GOOD)
def test_a_call_leads_to_the_one_path_of_its_kind_and_reason(name: str) -> None:
    leaf, path, body = GOOD[name]
    others = {other for _, other, _ in GOOD.values()} - {path}
    others |= {f"{path}/", f"/x{path}", path.replace("/v1/", "/v2/"), path.replace("2026-05-01", "2026-05-02")} - {path}
    others |= {path.replace(CAPTURE, OTHER), f"/v1/bank/redemptions/{OTHER}/capture", "", "/"} - {path}
    if name != "refund":  # whose redemption only the other entries tell
        others |= {path.replace(HOLD, OTHER)} - {path}
    for other in others:
        assert fault(leaf, other, body) is not None, other


def test_an_id_may_be_written_in_any_form() -> None:
    for written in (HOLD.upper(), HOLD.replace("-", ""), HOLD.replace("-", "%2D")):
        assert fault(*GOOD["capture"][:1], f"/v1/bank/redemptions/{written}/capture", {"units": 2}) is None


OTHER_BODIES: dict[str, list[Any]] = {
    "hold": [{}, {"offer": "loan"}, {"units": 5}, {"offer": "loan", "units": 4}, {"offer": "x", "units": 5}],
    "capture": [{"units": 1}, {"units": 20}, [], b"units", {"units": True}],
    "rest": [{}, {"final": False}, {"units": 2}, {"final": "true"}, {"final": 1.5}],
    "void": [[], b"x"],
    "refund": [{}, {"reason": "not_fulfilled"}],
    "closing": [{}, {"statement": AB}, {"statement": CD, "file": CD}, {"statement": AB, "file": None}],
    "closing without a file": [{"statement": AB}, {"statement": AB, "file": AB}],
}


@pytest.mark.parametrize("name", OTHER_BODIES)
def test_a_call_says_what_its_entry_says(name: str) -> None:
    leaf, path, _ = GOOD[name]
    for body in OTHER_BODIES[name]:
        assert fault(leaf, path, body) is not None, body


def test_of_an_offer_whose_document_is_not_there_the_name_is_not_asked() -> None:
    leaf, path, _ = GOOD["hold"]
    assert fault(leaf, path, {"offer": "x", "units": 5}, offer=None) is None


def test_a_step_that_is_not_the_banks_has_no_call() -> None:
    for reason in ("cancelled", "lapsed", "withdrawn"):
        leaf, path, body = GOOD["void"]
        assert fault(leaf | {"reason": reason}, path, body) is not None


def step(entry: int, kind: str, named: str = "", units: int = 1, reason: str | None = None, name: str = "") -> Step:
    return Step(
        entry, kind, "p", name or f"t{entry}", named, "demo", BANK, "pool", "", "2026-05-01", "2026-05-01T04:00:00Z",
        reason, units, 10 * units, units, 0,
    )  # fmt: skip


HELD = step(1, "hold", units=4, name="h")
PART, REST = step(2, "capture", "h", 1), step(3, "release", "h", 3, "rest")


def found(steps: Sequence[Step], *shown: Shown) -> list[int | None]:
    findings = Findings()
    check_calls(steps, shown, findings)
    assert findings.counts.keys() <= {"signed-call"}
    return [one.index for one in findings.shown]


def test_a_capture_and_its_rest_show_one_call() -> None:
    steps = (HELD, PART, REST)
    assert found(steps, Shown(2, "a"), Shown(3, "a")) == []
    assert found(steps, Shown(2, "a"), Shown(3, "b")) == [3]
    assert found((HELD, step(2, "capture", "other"), REST), Shown(2, "a"), Shown(3, "a")) == [3]
    again = (*steps, step(4, "release", "h", 3, "rest"))
    assert found(again, Shown(2, "a"), Shown(3, "a"), Shown(4, "a")) == [4]


def test_any_other_call_is_shown_once() -> None:
    other = step(5, "hold", units=4, name="i")._replace(participant="q")
    assert found((HELD, other), Shown(1, "a"), Shown(5, "a")) == [5]
    assert found((HELD, other), Shown(1, "a"), Shown(5, "b")) == []
    assert found((HELD, PART, step(3, "capture", "h", 1)), Shown(2, "a"), Shown(3, "a")) == [3]
    assert found((HELD, PART, step(3, "release", "h", 3, "voided")), Shown(2, "a"), Shown(3, "a")) == [3]
    assert found((HELD,), Shown(1, "a"), Shown(9, "a")) == [9]  # of a statement


def test_without_units_all_that_is_left_is_captured() -> None:
    every, less = step(2, "capture", "h", 4), step(2, "capture", "h", 3)
    assert found((HELD, every), Shown(2, "a", whole=True)) == []
    assert found((HELD, less), Shown(2, "a", whole=True)) == [2]
    assert found((HELD, PART, step(3, "capture", "h", 3)), Shown(2, "a"), Shown(3, "b", whole=True)) == []


def test_a_refund_names_the_redemption_of_its_capture() -> None:
    steps = (HELD, PART, step(3, "refund", "t2", 1))
    assert found(steps, Shown(2, "a"), Shown(3, "b", "h")) == []
    assert found(steps, Shown(2, "a"), Shown(3, "b", "i")) == [3]


def test_what_a_call_is_the_ground_of() -> None:
    call, leaf = signed(*GOOD["refund"])
    assert shown_for(7, call, leaf) == Shown(7, sha256(call["base"].encode()).hexdigest(), HOLD)
    assert shown_for(7, None, leaf) == Shown(7, leaf["signature"])
    assert shown_for(7, *signed(*GOOD["capture"])).whole is False
    assert shown_for(7, *signed(*GOOD["capture of all"])).whole is True
    assert shown_for(7, *signed(*GOOD["rest"])).whole is False
