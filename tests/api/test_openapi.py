"""The interface as a whole: every call by every role, what is not there, and the OpenAPI document."""

import re
from typing import Any, get_args
from uuid import UUID

import pytest

from api.auth import ROLE_SCOPES, Role
from api.problems import PROBLEM_TYPES
from tests.api.bankers import put_bank
from tests.running import Api, problem_of

pytestmark = pytest.mark.anyio

_SOME = UUID(int=7)
_TRANSFER = f"/v1/participants/{_SOME}/transfers/{_SOME}"
_RULES = ("/v1/methodologies/demo-shared-ebike/versions/1", "/v1/points-rules/demo-points/versions/1")
_APPROVAL = "/v1/approvals/" + "A" * 22
_ASKED = "/v1/link-requests/" + "A" * 22
_BANK = "https://bank.example/tests"
_LISTED = "/v1/products/documents/offer/some-offer/1"
_WEBHOOK = f"/v1/webhooks/{_SOME}"
_DAY = "/v1/statements/2026-05-01"
_DISPUTES = f"/v1/participants/{_SOME}/redemptions/{_SOME}/disputes"
_OWN_STEPS: tuple[str, ...] = ("cancel", "entitlement")
_BANK_STEPS: tuple[str, ...] = ("accept", "capture", "void", f"captures/{_SOME}/refund", "fulfilment")
_AT_BANK = f"/v1/bank/redemptions/{_SOME}/disputes/{_SOME}"
_RANGES = ("evidence/000", "calls/000", "reports/000")
_PARTS = ("bundle", *_RANGES, "rules/0", "documents/0", "checkpoints", "manifests", "keys", "totals")
_RIGHTS_READ = ("export", "corrections", "erasure", "guardian", "wards")
_WARD = f"/v1/me/wards/{_SOME}"
# Every call that needs a token, and the scope it needs.
CALLS: dict[tuple[str, str], str] = {
    ("POST", "/v1/activities"): "activities:write",
    ("POST", "/v1/retractions"): "activities:write",
    ("PUT", "/v1/sources/policy"): "sources:register",
    ("POST", "/v1/sources/keys/revocation"): "sources:register",
    ("POST", "/v1/settlements"): "activities:write",
    ("GET", "/v1/settlements/due"): "settlements:read",
    ("POST", "/v1/participants"): "participants:enrol",
    ("POST", "/v1/participants/batch"): "participants:enrol",
    ("POST", f"/v1/participants/{_SOME}/links"): "participants:enrol",
    ("DELETE", f"/v1/participants/{_SOME}/links/{_SOME}"): "participants:enrol",
    ("PUT", "/v1/sources"): "sources:register",
    ("GET", "/v1/sources"): "sources:register",
    ("GET", "/v1/sources/me"): "activities:write",
    ("GET", "/v1/registers/coverage"): "registers:write",
    ("POST", "/v1/registers/coverage/imports"): "registers:write",
    ("GET", f"/v1/participants/{_SOME}/waivers"): "balance:read",
    ("POST", f"/v1/participants/{_SOME}/waivers"): "waivers:write",
    ("PUT", "/v1/sources/keys"): "sources:register",
    ("GET", "/v1/sources/keys"): "manifests:read",
    ("POST", "/v1/manifests"): "activities:write",
    ("GET", "/v1/manifests"): "manifests:read",
    ("GET", "/v1/manifests/receipt"): "manifests:read",
    **{("POST", f"{rule}/approvals"): "rules:approve" for rule in _RULES},
    ("GET", f"/v1/participants/{_SOME}/balance"): "balance:read",
    ("GET", f"/v1/participants/{_SOME}/statement"): "balance:read",
    ("GET", _TRANSFER): "balance:read",
    ("GET", f"{_TRANSFER}/receipt"): "balance:read",
    ("GET", f"/v1/participants/{_SOME}/receipt"): "balance:read",
    ("GET", "/v1/events"): "events:read",
    **{("GET", f"/v1/audit/{part}"): "audit:read" for part in _PARTS},
    ("POST", f"{_TRANSFER}/reversal"): "credits:reverse",
    **{("GET", path): "profile:read" for path in ("/v1/me", "/v1/me/consents", f"/v1/me/links/{_SOME}", _ASKED)},
    ("DELETE", f"/v1/me/links/{_SOME}"): "profile:write",
    ("POST", f"/v1/me/consents/{_SOME}/withdraw"): "profile:write",
    **{("POST", f"{_ASKED}/{step}"): "profile:write" for step in ("approve", "decline")},
    ("GET", "/v1/me/requests"): "redemptions:read",
    **{("POST", f"/v1/me/requests/{_SOME}{step}"): "redemptions:write" for step in ("", "/decline")},
    ("GET", "/v1/me/reviews"): "balance:read",
    ("POST", f"/v1/me/reviews/{_SOME}/answer"): "profile:write",
    ("GET", "/v1/reviews"): "reviews:read",
    ("GET", f"/v1/reviews/{_SOME}"): "reviews:read",
    ("POST", f"/v1/reviews/{_SOME}/decisions"): "reviews:decide",
    ("GET", "/v1/signals"): "reviews:read",
    ("GET", "/v1/signals/sources"): "reviews:read",
    ("GET", f"/v1/participants/{_SOME}/offers"): "redemptions:read",
    ("GET", "/v1/products/documents"): "products:write",
    ("PUT", "/v1/products/documents"): "products:write",
    **{("POST", f"{_LISTED}/{step}"): "products:approve" for step in ("approve", "resume")},
    **{("POST", f"{_LISTED}/{step}"): "products:write" for step in ("suspend", "take-down")},
    **{("PUT", path): "banks:write" for path in ("/v1/banks", "/v1/banks/keys")},
    **{("POST", f"/v1/banks/{action}"): "banks:write" for action in ("suspend", "resume")},
    ("GET", "/v1/banks"): "banks:write",
    ("GET", "/v1/bank"): "redemptions:write",
    ("POST", "/v1/bank/requests"): "redemptions:write",
    ("GET", f"/v1/bank/requests/{_SOME}"): "redemptions:read",
    ("POST", "/v1/bank/sandbox/signature"): "redemptions:write",
    ("GET", "/v1/bank/sandbox/clock"): "redemptions:read",
    ("GET", _APPROVAL): "redemptions:read",
    ("POST", _APPROVAL): "redemptions:write",
    ("POST", f"{_APPROVAL}/decline"): "redemptions:write",
    **{(method, "/v1/webhooks"): "webhooks:write" for method in ("GET", "POST")},
    **{(method, _WEBHOOK): "webhooks:write" for method in ("GET", "PATCH", "DELETE")},
    **{("POST", f"{_WEBHOOK}/{step}"): "webhooks:write" for step in ("secrets", "test", "replay")},
    ("POST", f"{_WEBHOOK}/messages/evt_1/retry"): "webhooks:write",
    **{("GET", f"{_WEBHOOK}/{part}"): "webhooks:write" for part in ("messages", "attempts")},
    **{("GET", path): "statements:read" for path in ("/v1/statements", _DAY, f"{_DAY}/reconciliation")},
    ("POST", f"{_DAY}/files"): "statements:write",
    ("POST", f"{_DAY}/closing"): "statements:read",
    **{(method, _DISPUTES): f"redemptions:{scope}" for method, scope in (("GET", "read"), ("POST", "write"))},
    ("POST", f"{_DISPUTES}/{_SOME}/withdrawal"): "redemptions:write",
    ("POST", f"{_DISPUTES}/{_SOME}/decision"): "credits:reverse",
    ("GET", "/v1/disputes"): "redemptions:read",
    ("POST", f"/v1/participants/{_SOME}/quotes"): "redemptions:read",
    ("POST", f"/v1/participants/{_SOME}/redemptions"): "redemptions:write",
    ("GET", f"/v1/participants/{_SOME}/redemptions"): "redemptions:read",
    ("GET", f"/v1/participants/{_SOME}/redemptions/{_SOME}"): "redemptions:read",
    **{("POST", f"/v1/participants/{_SOME}/redemptions/{_SOME}/{verb}"): "redemptions:write" for verb in _OWN_STEPS},
    ("POST", f"/v1/participants/{_SOME}/wishes"): "redemptions:write",
    ("GET", f"/v1/participants/{_SOME}/wishes"): "redemptions:read",
    ("DELETE", f"/v1/participants/{_SOME}/wishes/{_SOME}"): "redemptions:write",
    ("GET", "/v1/bank/redemptions"): "redemptions:read",
    ("GET", f"/v1/bank/redemptions/{_SOME}"): "redemptions:read",
    **{("POST", f"/v1/bank/redemptions/{_SOME}/{verb}"): "redemptions:write" for verb in _BANK_STEPS},
    ("PUT", "/v1/pools"): "pools:write",
    ("POST", "/v1/pools/a-pool/changes"): "pools:write",
    ("POST", "/v1/pools/a-pool/state"): "pools:write",
    ("GET", _AT_BANK): "redemptions:read",
    ("POST", f"{_AT_BANK}/answer"): "redemptions:write",
    ("GET", "/v1/liability"): "pools:write",
    ("PATCH", "/v1/me"): "profile:write",
    **{("GET", f"/v1/me/{part}"): "profile:read" for part in _RIGHTS_READ},
    **{("POST", f"/v1/me/{part}"): "profile:write" for part in ("erasure", "guardian-codes", "wards")},
    **{(method, _WARD): "profile:write" for method in ("PATCH", "DELETE")},
    ("GET", f"{_WARD}/export"): "profile:read",
    ("POST", f"{_WARD}/erasure"): "profile:write",
    ("GET", "/v1/funder/pools"): "pools:read",
    **{("PUT", path): "clients:write" for path in ("/v1/clients", "/v1/clients/keys")},
    **{("POST", f"/v1/clients/{step}"): "clients:write" for step in ("suspend", "resume", "revoke-tokens")},
    ("GET", "/v1/clients"): "clients:write",
    **{(method, "/v1/limits"): "limits:write" for method in ("GET", "PUT")},
}
_WHO_READS: set[Role] = {"participant", "operator", "authority"}
# Calls whose scope other roles have too, for what is theirs.
RESERVED: dict[tuple[str, str], set[Role]] = {
    ("GET", "/v1/bank"): {"bank"},
    ("POST", "/v1/bank/sandbox/signature"): {"bank"},
    ("GET", f"/v1/bank/requests/{_SOME}"): {"bank"},
    ("GET", f"/v1/participants/{_SOME}/offers"): _WHO_READS,
    ("GET", _APPROVAL): {"participant"},
    ("POST", _APPROVAL): {"participant"},
    ("POST", f"{_APPROVAL}/decline"): {"participant"},
    ("GET", "/v1/me/requests"): {"participant"},
    **{("POST", f"/v1/me/requests/{_SOME}{step}"): {"participant"} for step in ("", "/decline")},
    ("GET", "/v1/me/reviews"): {"participant"},
    ("GET", _DISPUTES): _WHO_READS,
    ("POST", _DISPUTES): {"participant"},
    ("POST", f"{_DISPUTES}/{_SOME}/withdrawal"): {"participant"},
    ("GET", "/v1/disputes"): {"bank", "operator", "authority"},
    ("POST", f"{_DAY}/closing"): {"bank", "operator"},
    ("POST", f"/v1/participants/{_SOME}/quotes"): _WHO_READS,
    ("POST", f"/v1/participants/{_SOME}/redemptions"): {"participant"},
    ("GET", f"/v1/participants/{_SOME}/redemptions"): _WHO_READS,
    ("GET", f"/v1/participants/{_SOME}/redemptions/{_SOME}"): _WHO_READS,
    **{("POST", f"/v1/participants/{_SOME}/redemptions/{_SOME}/{verb}"): {"participant"} for verb in _OWN_STEPS},
    ("POST", f"/v1/participants/{_SOME}/wishes"): {"participant"},
    ("GET", f"/v1/participants/{_SOME}/wishes"): _WHO_READS,
    ("DELETE", f"/v1/participants/{_SOME}/wishes/{_SOME}"): {"participant"},
    ("GET", "/v1/bank/redemptions"): {"bank"},
    ("GET", f"/v1/bank/redemptions/{_SOME}"): {"bank"},
    **{("POST", f"/v1/bank/redemptions/{_SOME}/{verb}"): {"bank"} for verb in _BANK_STEPS},
    ("GET", _AT_BANK): {"bank"},
    ("POST", f"{_AT_BANK}/answer"): {"bank"},
}
# A stream has no end, and of the log's files the entries alone need a token: tests/api/test_log_and_receipts.py asks.
ELSEWHERE = {
    ("GET", "/v1/events/stream"),
    ("GET", "/log/tile/{path}"),
    ("GET", "/log/epoch-{epoch}/tile/{path}"),
}
PUBLIC = (
    "/v1/methodologies",
    "/v1/points-rules",
    "/v1/factor-sets",
    *_RULES,
    "/v1/bank/keys",
    "/v1/problems",
    "/v1/problems/forbidden",
    "/v1/products",
    "/v1/offers",
    "/v1/pools",
    "/v1/oauth/jwks",
    "/.well-known/oauth-authorization-server",
    "/v1/health/alive",
    "/v1/health/ready",
    "/v1/health/lag",
    "/v1/log",
    "/v1/consent-texts",
    "/v1/schemas/person-export-1",
    "/metrics",
    "/openapi.json",
)


def _bearer(api: Api, role: Role, **claims: Any) -> dict[str, str]:
    subject = str(_SOME) if role == "participant" else "tests"
    source = "urn:tests:some" if role == "provider" else None
    claims |= {"bank": _BANK} if role == "bank" else {"funder": "urn:tests:funder"} if role == "funder" else {}
    return {"Authorization": f"Bearer {api.issuer.issue(role, subject, source=source, **claims)}"}


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
@pytest.mark.parametrize("role", get_args(Role))
async def test_each_role_reaches_what_its_scopes_open(api: Api, call: tuple[str, str], role: Role) -> None:
    method, path = call
    if role == "bank":
        await put_bank(api, _BANK)
    answer = await api.client.request(method, path, headers=_bearer(api, role))
    if CALLS[call] in ROLE_SCOPES[role] and role not in RESERVED.get(call, {role}):
        assert problem_of(answer, "forbidden")["reason"] == "not-yours"
    elif CALLS[call] in ROLE_SCOPES[role]:
        assert answer.status_code not in (401, 403), answer.text
    else:
        assert problem_of(answer, "forbidden")["missing_scope"] == CALLS[call]
    refused = await api.client.request(method, path, headers=_bearer(api, role, scopes=[]))
    assert problem_of(refused, "forbidden")["missing_scope"] == CALLS[call]


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
async def test_without_a_good_token_nothing_is_answered(api: Api, call: tuple[str, str]) -> None:
    method, path = call
    for value in (None, "", "Bearer", "Bearer nonsense", "Basic dGVzdDp0ZXN0", "Bearer a.b.c"):
        headers = {} if value is None else {"Authorization": value}
        answer = await api.client.request(method, path, headers=headers)
        problem_of(answer, "unauthenticated")
        assert answer.headers["www-authenticate"].startswith('Bearer realm="tanpuhui"')


@pytest.mark.parametrize("path", PUBLIC)
async def test_what_is_public_needs_no_token(api: Api, path: str) -> None:
    assert (await api.client.get(path)).status_code == 200


@pytest.mark.parametrize("path", ["/", "/v1", "/v2/activities", "/v1/participants/x", "/v1/%00", "/v1/problems/x"])
async def test_another_address_is_not_found(api: Api, path: str) -> None:
    problem_of(await api.client.get(path, follow_redirects=True), "not-found")


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
async def test_another_method_is_refused_and_the_right_ones_named(api: Api, call: tuple[str, str]) -> None:
    answer = await api.client.request("TRACE", call[1], headers=api.bearer("operator"))
    problem_of(answer, "method-not-allowed")
    assert answer.headers["allow"]


async def test_the_document_describes_every_call_and_its_problems(api: Api) -> None:
    document = (await api.client.get("/openapi.json")).json()
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    named = {
        (
            method,
            path.replace(f"/participants/{_SOME}", "/participants/{participant_id}").replace(
                "/registers/coverage", "/registers/{register}"
            ),
        )
        for method, path in CALLS
    }
    named = {
        (
            method,
            path.replace(f"links/{_SOME}", "links/{link_id}").replace(f"transfers/{_SOME}", "transfers/{transfer_id}"),
        )
        for method, path in named
    }
    named = {
        (method, path.replace(f"requests/{_SOME}", "requests/{request_id}").replace(_APPROVAL, "/v1/approvals/{code}"))
        for method, path in named
    }
    named = {(method, re.sub("/[^/]+/versions/1/", "/{rule_id}/versions/{version}/", path)) for method, path in named}
    named = {
        (
            method,
            path.replace("evidence/000", "evidence/{path}")
            .replace("calls/000", "calls/{path}")
            .replace("reports/000", "reports/{path}")
            .replace("rules/0", "rules/{digest}")
            .replace("documents/0", "documents/{digest}"),
        )
        for method, path in named
    }
    named = {
        (method, path.replace(_WEBHOOK, "/v1/webhooks/{webhook_id}").replace("evt_1", "{message_id}"))
        for method, path in named
    }
    named = {
        (
            method,
            path.replace(f"redemptions/{_SOME}", "redemptions/{redemption_id}")
            .replace(f"disputes/{_SOME}", "disputes/{dispute_id}")
            .replace(f"captures/{_SOME}", "captures/{capture_id}")
            .replace(f"wishes/{_SOME}", "wishes/{wish_id}")
            .replace(f"wards/{_SOME}", "wards/{guardianship_id}")
            .replace(f"reviews/{_SOME}", "reviews/{review_id}")
            .replace(f"consents/{_SOME}", "consents/{consent_id}")
            .replace(_ASKED, "/v1/link-requests/{handle}")
            .replace("a-pool", "{pool}")
            .replace(_DAY, "/v1/statements/{day}"),
        )
        for method, path in named
    }
    template = "/v1/products/documents/{kind}/{document_id}/{version}"
    named = {(method, path.replace(_LISTED, template)) for method, path in named}
    assert named <= described
    open_calls = {(method, path) for method, path in described if path.startswith("/v1")} - named
    # Their callers prove themselves otherwise than by a token.
    own_proof = {"/v1/oauth/token", "/v1/oauth/revoke", "/v1/oauth/par"}
    assert {path for method, path in open_calls if method != "GET"} - own_proof == {
        "/v1/quantify",
        "/v1/quantify/compare",
    }
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["summary"], path
            assert ("security" in operation) == ((method.upper(), path) in named | ELSEWHERE), path
            _check_problems(operation)


def _check_problems(operation: dict[str, Any]) -> None:
    for status, answer in operation["responses"].items():
        if "application/problem+json" in answer.get("content", {}):
            slugs = [part.rpartition("(")[2].rstrip(")") for part in answer["description"].split("; ")]
            assert {str(PROBLEM_TYPES[slug].status) for slug in slugs} == {status}


async def test_every_reference_of_the_document_leads_somewhere(api: Api) -> None:
    document = (await api.client.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    for name in (
        "ActivityEvent",
        "ActivityData",
        "Enrolment",
        "SourceRegistration",
        "RegisterImport",
        "WaiverWanted",
        "ReversalWanted",
    ):
        assert name in schemas

    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*(references(value) for value in node.values()))
        return set().union(*(references(value) for value in node)) if isinstance(node, list) else set()

    assert {name.removeprefix("#/components/schemas/") for name in references(document)} <= schemas.keys()
