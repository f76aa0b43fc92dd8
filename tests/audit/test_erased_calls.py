"""A bank's request that named somebody who is forgotten: its body is gone, its signature still checks."""

from collections.abc import Mapping
from typing import Any

import pytest

from service.audit.calls import fault_of, is_erased, shown_for
from tests.audit.test_calls import GOOD, KEYS, signed


def without_body(name: str) -> tuple[dict[str, Any], Mapping[str, Any]]:
    call, leaf = signed(*GOOD[name])
    return call | {"body": None}, leaf


def test_a_request_without_its_body_is_still_the_ground_of_its_hold() -> None:
    call, leaf = without_body("hold")
    assert is_erased(call)
    assert fault_of(call, leaf, KEYS, "loan") is None
    assert shown_for(7, call, leaf) == shown_for(7, signed(*GOOD["hold"])[0], leaf)


def test_what_was_signed_is_still_checked() -> None:
    call, leaf = without_body("hold")
    other, _ = signed({"kind": "hold", "units": "5"}, "/v1/bank/requests", {"offer": "loan", "units": 6})
    assert fault_of(call | {"signature": other["signature"]}, leaf, KEYS, "loan") is not None
    assert fault_of(call | {"content_digest": other["content_digest"]}, leaf, KEYS, "loan") is not None
    assert fault_of(call, leaf, {}, "loan") == "a key that is not the bank's"


@pytest.mark.parametrize("name", sorted(GOOD.keys() - {"hold"}))
def test_no_other_call_is_taken_without_its_body(name: str) -> None:
    """An operator who blanks what a bank asked for hides nothing."""
    call, leaf = without_body(name)
    assert not is_erased(call)
    assert fault_of(call, leaf, KEYS) is not None
