"""What belongs to one is closed to another: read or done by nobody else, and not even known to be there."""

import itertools
import os
import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from schemathesis import APIOperation, Case, GenerationMode

from api.auth import Role
from tests.whole.asking import generated, operations_of, request_of
from tests.whole.world import Caller, Side, World

pytestmark = pytest.mark.anyio

Operation = APIOperation[Any, Any, Any, Any]
OWNERS: tuple[Role, ...] = ("participant", "provider", "bank")
OWN_QUERIES = {"source", "bank"}
# What there is none of in this world: a wish waits for a pool that is short, a review for a signal, a ward is a child.
ABSENT = {"wish_id", "review_id", "guardianship_id"}
# A secret that a bank or a source hands to whomever it serves: who holds it is whom it is for, until somebody decides.
HANDED_OVER = {"code", "handle"}
# Names of rules, documents, days and parts of the log: known to everybody, or to whoever has the role.
EVERYBODYS = {
    "day",
    "digest",
    "document_id",
    "epoch",
    "kind",
    "offer_id",
    "path",
    "pool",
    "product_id",
    "register",
    "rule_id",
    "set_id",
    "slug",
    "version",
}
DECIDED = "/v1/me/requests/{request_id}/decline"  # by then its owner has approved it
NOT_YET = {"receipt-not-ready", "seal-not-found"}  # no publisher runs here: it is the owner who is told so
PUBLIC = {"/v1/products", "/v1/offers"}  # open to everybody, whatever bank is asked for


def owned(operation: Operation, side: Side) -> list[str]:
    """The parameters of the address that name what belongs to somebody."""
    found = [parameter["name"] for parameter in operation.definition.raw.get("parameters", [])]
    return [name for name in found if side.id_of(operation.path, name) and name not in HANDED_OVER]


def is_closed(operation: Operation, side: Side) -> bool:
    """Whether the call is about something of somebody's."""
    names = {parameter["name"] for parameter in operation.definition.raw.get("parameters", [])}
    return bool(owned(operation, side) or names & OWN_QUERIES)


def one_case(operation: Operation) -> Case[Any]:
    """A request that the document allows, with every optional parameter of somebody's in it."""
    (case,) = generated(operation.as_strategy(generation_mode=GenerationMode.POSITIVE), 1)
    for parameter in operation.definition.raw.get("parameters", []):
        if parameter["in"] == "query" and parameter["name"] in OWN_QUERIES:
            case.query = {**case.query, parameter["name"]: "x"}
    return case


def mixtures(operation: Operation, theirs: Side, mine: Side) -> Iterator[Side]:
    """Everything of theirs; and mine but for one or more ids that are theirs, as in /participants/mine/links/theirs."""
    names = owned(operation, theirs)
    yield theirs
    for size in range(1, len(names)):
        for chosen in itertools.combinations(names, size):
            yield mine.with_ids({name: theirs.id_of(operation.path, name) or "" for name in chosen})


def nobodys(operation: Operation, side: Side, theirs: Side) -> Side:
    """The same address with ids that nobody has in place of theirs."""
    return side.with_ids(
        {
            name: str(uuid4())
            for name in owned(operation, side)
            if side.id_of(operation.path, name) == theirs.id_of(operation.path, name)
        }
    )


def verdict(answer: httpx.Response) -> tuple[int, str]:
    """The status, and what type of problem it is."""
    return answer.status_code, str(answer.json().get("type", "")) if answer.content else ""


async def ask(world: World, operation: Operation, case: Case[Any], caller: Caller, side: Side) -> httpx.Response:
    request = request_of(operation.path, case, caller, side, os.urandom(8).hex(), sign=True)
    return await request.send(world)


async def seen(world: World, operations: list[Operation]) -> dict[str, bytes]:
    """Everything that the one side can read of its own."""
    found = {}
    for operation in operations:
        if operation.method == "get" and is_closed(operation, world.one):
            for role in OWNERS:
                answer = await ask(world, operation, one_case(operation), Caller(role, world.one), world.one)
                if answer.is_success:
                    found[f"{operation.path} {role}"] = answer.content
    return found


async def test_nobody_reaches_what_is_somebody_elses(world: World) -> None:
    transport: Any = world.api.client._transport
    operations = operations_of(transport.app.openapi())
    before, wrong = await seen(world, operations), []
    assert len(before) > 15
    for operation in operations:
        if not is_closed(operation, world.one):
            continue
        case = one_case(operation)
        for role in OWNERS:
            caller = Caller(role, world.other)
            for side in mixtures(operation, world.one, world.other):
                answer = await ask(world, operation, case, caller, side)
                unknown = await ask(world, operation, case, caller, nobodys(operation, side, world.one))
                said = f"{operation.label} as another {role}: {answer.status_code} {answer.text[:300]}"
                empty = bool(owned(operation, side)) and answer.content == unknown.content
                if answer.is_success and not empty and operation.path not in PUBLIC:
                    wrong.append(said)
                if owned(operation, side) and verdict(answer) != verdict(unknown):
                    wrong.append(f"{said} but of what is not there {verdict(unknown)}")
                asked = str(answer.request.url)
                wrong += [
                    f"{said} tells of {word}" for word in world.one.secret if word in answer.text.replace(asked, "")
                ]
    assert not wrong, "\n".join(wrong)
    assert await seen(world, operations) == before


async def test_the_same_calls_are_open_to_the_owner(world: World) -> None:
    """The other half: what was refused above is not refused to the right one."""
    transport: Any = world.api.client._transport
    operations, closed = operations_of(transport.app.openapi()), []
    for operation in sorted(operations, key=ends_something):
        if operation.path == DECIDED or any(f"{{{name}}}" in operation.path for name in ABSENT):
            continue
        if owned(operation, world.one):
            case = one_case(operation)
            callers = [Caller(role, world.one) for role in (*OWNERS, "operator")]
            answers = [await ask(world, operation, case, caller, world.one) for caller in callers]
            if not any(is_open(answer) for answer in answers):
                closed.append(f"{operation.label}: {[answer.text[:150] for answer in answers]}")
    assert not closed, "\n".join(closed)


def ends_something(operation: Operation) -> int:
    """Whether what other calls are about may be gone after it: the more, the later it is asked."""
    return 2 * (operation.method == "delete") + operation.path.endswith("/withdraw")


def is_open(answer: httpx.Response) -> bool:
    """Whether the caller was let at it, whatever became of what they asked."""
    slug = verdict(answer)[1].rpartition(":")[2]
    return slug in NOT_YET or not (answer.status_code in (401, 404) or slug == "forbidden")


async def test_every_name_in_an_address_is_somebodys_or_everybodys(world: World) -> None:
    """A new kind of id is named here or in the world, so that what is asked above is asked of it too."""
    transport: Any = world.api.client._transport
    names = {name for path in transport.app.openapi()["paths"] for name in re.findall(r"\{(\w+)\}", path)}
    assert names == (world.one.ids.keys() & names) | ABSENT | EVERYBODYS
