"""Whatever is asked of whatever call, by whomever: no fault of ours, and nothing that is not documented."""

from typing import Any

import httpx
import pytest
from schemathesis import GenerationMode

from tests.whole.asking import Request, can_be_wrong, generated, operations_of, requests
from tests.whole.judging import Judge
from tests.whole.world import ROLES, Caller, World

pytestmark = pytest.mark.anyio

POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE


async def ask_everything(world: World, examples: dict[GenerationMode, int], *, fixed: bool = True) -> list[str]:
    """Ask every operation once in every role and without one, then again and again in those that it is open to; what
    was wrong with the answers."""
    transport: Any = world.api.client._transport
    document = transport.app.openapi()
    judge, everybody = Judge(document), [Caller(role, world.one) for role in (*ROLES, None)]
    wrong: dict[tuple[str, ...], str] = {}

    async def ask(request: Request) -> httpx.Response:
        answer = await request.send(world)
        for fault in judge.faults(request.method, request.template, answer):
            said = f"{fault}\n  {request}\n  {answer.text[:500]}"
            wrong.setdefault((request.method, request.template, fault[:60]), said)
        return answer

    for operation in operations_of(document):
        first, *more = generated(requests(operation, POSITIVE), 1 + examples[POSITIVE], fixed=fixed)
        roles = [caller.role for caller in everybody if not refuses_role(await ask(first.request([caller])))]
        admitted = world.callers(*roles)
        if not admitted:
            wrong[(operation.label,)] = f"{operation.label} is open to nobody"
            continue
        if can_be_wrong(operation):
            more += generated(requests(operation, NEGATIVE), examples[NEGATIVE], fixed=fixed)
        for drawn in more:
            await ask(drawn.request(admitted))
    return list(wrong.values())


def refuses_role(answer: httpx.Response) -> bool:
    """Whether nobody of this role is let in."""
    return answer.status_code == 401 or (answer.status_code == 403 and "missing_scope" in answer.json())


async def test_every_answer_is_documented(world: World) -> None:
    wrong = await ask_everything(world, {POSITIVE: 1, NEGATIVE: 1})
    assert not wrong, "\n".join(wrong)


@pytest.mark.soak
async def test_every_answer_is_documented_in_the_long_run(world: World) -> None:
    wrong = await ask_everything(world, {POSITIVE: 300, NEGATIVE: 300}, fixed=False)
    assert not wrong, "\n".join(wrong)
