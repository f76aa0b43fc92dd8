"""Requests made of the OpenAPI document: what it allows and what it does not, sent as anybody, about anybody's."""

from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.core import NOT_SET
from schemathesis.core.result import Ok

from tests.whole.world import Caller, Side, World, as_body, signed

T = TypeVar("T")
_NUMBER = st.integers(0, 10**6)

# A stream has no end, so this client would never have its answer.
ENDLESS = "/v1/events/stream"
LAST = "/v1/me/erasure"  # whoever asks for it reads nothing more


class Request:
    """One request, ready to be sent. No dataclass: Hypothesis would write down all of its fields, and their fields."""

    __slots__ = ("body", "caller", "headers", "method", "path", "template")

    def __init__(
        self, caller: Caller, method: str, template: str, path: str, headers: dict[str, str], body: bytes
    ) -> None:
        self.caller, self.method, self.template = caller, method, template
        self.path, self.headers, self.body = path, headers, body

    async def send(self, world: World) -> httpx.Response:
        """Send it with the caller's token."""
        headers = self.caller.headers(world.api) | self.headers
        return await world.api.client.request(self.method, self.path, headers=headers, content=self.body)

    def by(self, caller: Caller) -> "Request":
        """The same, sent by somebody else."""
        return Request(caller, self.method, self.template, self.path, self.headers, self.body)

    def __repr__(self) -> str:
        """It in words, for whoever repeats it."""
        body = self.body[:300].decode("utf-8", "replace")
        return f"{self.method} {self.path[:300]} as {self.caller.role}, {self.headers} {body}"


@schemathesis.serializer("application/jose", "text/csv", "text/yaml")
def _as_it_is(_: Any, value: Any) -> bytes:
    """Bodies that are text of their own form."""
    return as_body(value, None)


def operations_of(document: dict[str, Any]) -> list[APIOperation[Any, Any, Any, Any]]:
    """Every operation of the document that ends."""
    schema = schemathesis.openapi.from_dict(document)
    read = list(schema.get_all_operations())
    found = [result.ok() for result in read if isinstance(result, Ok)]
    assert len(found) == len(read), [result for result in read if not isinstance(result, Ok)]
    asked = [operation for operation in found if operation.path != ENDLESS]
    return sorted(asked, key=lambda operation: operation.path == LAST)


def can_be_wrong(operation: APIOperation[Any, Any, Any, Any]) -> bool:
    """Whether there is anything in a request that the document could forbid, so that negative cases can be made: not
    where all that is asked for is a token, or any text is an address."""
    described = operation.definition.raw
    typed = any(
        parameter["schema"].keys() - {"title", "type", "description"} or parameter["schema"].get("type") != "string"
        for parameter in described.get("parameters", [])
        if parameter["in"] in ("path", "query")
    )
    return typed or "requestBody" in described


class Drawn:
    """A generated case, and what else was drawn: who sends it, about whose things, under what key, signed or not."""

    def __init__(
        self, operation: APIOperation[Any, Any, Any, Any], case: Case[Any], numbers: tuple[int, int, int], sign: bool
    ):
        self._template, self._case, self._numbers, self._sign = operation.path, case, numbers, sign

    def request(self, callers: Sequence[Caller]) -> Request:
        """The request by one of these callers, about what is theirs, another's or nobody's."""
        who, whose, key = self._numbers
        caller = callers[who % len(callers)]
        sides = [None, caller.side, *{id(each.side): each.side for each in callers}.values()]
        side, named = sides[whose % len(sides)], [None, "again", "0123456789abcdef"][key % 3]
        return request_of(self._template, self._case, caller, side, named, sign=self._sign)


def requests(operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode) -> st.SearchStrategy[Drawn]:
    """Requests of this operation: what the document allows, or what it does not."""
    cases = operation.as_strategy(generation_mode=mode)

    @st.composite
    def made(draw: st.DrawFn) -> Drawn:  # without arguments: Hypothesis would write them down with everything in them
        numbers = draw(st.tuples(_NUMBER, _NUMBER, _NUMBER))
        return Drawn(operation, draw(cases), numbers, draw(st.booleans()))

    return made()


def request_of(
    template: str, case: Case[Any], caller: Caller, side: Side | None, key: str | None, *, sign: bool
) -> Request:
    """A generated case, sent by this caller about what is this side's; by a bank perhaps signed."""
    path = path_of(template, case, side) + query_of(case, side)
    body = b"" if case.body is NOT_SET else as_body(body_of(case, side), case.media_type)
    headers = {"Content-Type": case.media_type} if case.media_type and body else {}
    if case.method != "GET":
        if key:
            headers["Idempotency-Key"] = f'"{key}"'
        if sign and caller.role == "bank":
            headers |= signed(caller.side.bank.key, case.method, path, body, key)
    return Request(caller, case.method, template, path, headers, body)


def path_of(template: str, case: Case[Any], side: Side | None) -> str:
    """The address: of what belongs to this side where there is such a thing, else as it was generated."""
    path = template
    for name, value in case.path_parameters.items():
        chosen = side.id_of(template, name) if side else None
        path = path.replace(f"{{{name}}}", chosen or quote(str(value), safe="%", errors="replace"))
    return path


def body_of(case: Case[Any], side: Side | None) -> Any:
    """The body, with what there is of this side in place of names that nobody bears."""
    if side is None or not isinstance(case.body, dict):
        return case.body
    own = {
        "offer": side.offer,
        "source": side.person.source,
        "bank": side.bank.uri,
        "subject": side.person.subject,
        "consent": {"text_version": "tests-1", "given_at": "2026-11-01T08:00:00+08:00"},
    }
    return {name: own.get(name, value) for name, value in case.body.items()}


def query_of(case: Case[Any], side: Side | None) -> str:
    """The query, with this side's source and bank where they are asked for."""
    own = {"source": side.person.source, "bank": side.bank.uri, "uri": side.bank.uri} if side else {}
    pairs = [(name, own.get(name, value)) for name, value in (case.query or {}).items() if value is not None]
    written = urlencode([(name, _plain(value)) for name, value in pairs], doseq=True, errors="replace")
    return f"?{written}" if written else ""


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return [_plain(each) for each in value] if isinstance(value, list) else str(value)


def generated(strategy: st.SearchStrategy[T], examples: int, *, fixed: bool = True) -> list[T]:
    """So many of these: the same each time, or others in the long run."""
    made: list[T] = []

    @given(strategy)
    @settings(
        max_examples=examples,
        derandomize=fixed,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )
    def collect(one: T) -> None:
        made.append(one)

    collect()
    return made
