"""Webhooks 事件推送: a bank names where its events are sent, and sees what became of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from api.dependencies import BODY_PROBLEMS, CALL_PROBLEMS, admit, charge, openapi_body, parsed, platform_of, read_json
from api.platform import Platform
from api.problems import Problem, Text, openapi_problems
from api.signatures.calls import calling_bank
from api.v1.manifests import answered
from api.webhook_views import (
    AttemptsView,
    MessagesView,
    NewWebhookView,
    QueuedView,
    ReplayWanted,
    SecretView,
    SecretWanted,
    WebhookChange,
    WebhooksView,
    WebhookView,
    WebhookWanted,
)
from service.clock import system_clock
from service.database import Connection
from service.webhooks import endpoints, history, messages
from service.webhooks.addresses import AddressRefused, NameUnknown, resolve
from service.webhooks.endpoints import Change, Endpoint, UrlRefused

router = APIRouter(prefix="/webhooks", tags=["webhooks"])

Limit = Annotated[int, Query(ge=1, le=500)]
_BANK = "bank-not-registered"
SCOPE = "webhooks:write"
_now = system_clock()  # the real time: receivers hold signatures against theirs
Model = TypeVar("Model", bound=BaseModel)
_NOT_KEPT = {"Cache-Control": "no-store"}  # a secret stays in nobody's cache
_ONE = (*CALL_PROBLEMS, _BANK, "webhook-not-found")

# Why no events are sent to an address.
_REFUSED: dict[str, Text] = {
    "not-a-url": Text("不是由可见 ASCII 字符组成的完整地址", "it is no complete address of visible ASCII characters"),
    "not-https": Text("应以 https:// 开头", "it begins with something else than https://"),
    "carries-credentials": Text("含有用户名或口令", "it carries a user name or a password"),
    "has-fragment": Text("含有 # 之后的片段", "it has a fragment, after #"),
    "private-address": Text("指向本机、内网或保留地址", "it leads to a private, local or reserved address"),
    "name-unknown": Text("域名无法解析", "its name cannot be resolved"),
}


@dataclass(frozen=True, slots=True)
class _Caller:
    """A bank that calls: its URI, the moment, and the headers of its answer."""

    platform: Platform
    bank: str
    at: datetime
    headers: dict[str, str]


async def _caller(request: Request) -> _Caller:
    caller = await admit(request, SCOPE)
    headers = await charge(request, caller)
    bank = await calling_bank(request, caller)
    return _Caller(platform_of(request), bank.uri, _now(), headers)


async def _caller_with(request: Request, model: type[Model]) -> tuple[_Caller, Model]:
    caller = await admit(request, SCOPE)
    content = await read_json(request)
    headers = await charge(request, caller)
    body = parsed(model, content)
    bank = await calling_bank(request, caller)
    return _Caller(platform_of(request), bank.uri, _now(), headers), body


@asynccontextmanager
async def _transaction(caller: _Caller) -> AsyncIterator[Connection]:
    """A transaction of the call, committed before the answer leaves; what it cannot find is a problem."""
    try:
        async with caller.platform.pool.acquire() as connection, connection.transaction():
            yield connection
    except endpoints.WebhookNotFound:
        raise Problem("webhook-not-found") from None
    except endpoints.TooManyWebhooks:
        raise Problem("webhook-limit", limit=endpoints.MOST_OF_A_BANK) from None
    except messages.MessageNotFound:
        raise Problem("webhook-message-not-found") from None


@router.post(
    "",
    status_code=201,
    summary="Add a webhook 添加推送端点",
    response_model=NewWebhookView,
    responses=openapi_problems(*BODY_PROBLEMS, _BANK, "webhook-address-refused", "webhook-limit"),
    openapi_extra=openapi_body(model=WebhookWanted),
)
async def add(request: Request) -> Response:
    """Have events sent to an address from now on, or from a place of the log on. The answer holds the secret that the
    receiver verifies with; it is not shown again."""
    caller, body = await _caller_with(request, WebhookWanted)
    await _require_address(caller.platform, body.url)
    async with _transaction(caller) as tx:
        webhook_id = caller.platform.fresh.id()
        kinds = list(dict.fromkeys(body.kinds))
        made, secret = await endpoints.create(
            tx, caller.platform.keyring, webhook_id, caller.bank, body.url, kinds, body.from_index, caller.at
        )
        content = {**await _view(tx, made), "secret": secret}
    return answered(201, content, caller.headers | _NOT_KEPT, request)


@router.get(
    "",
    summary="List webhooks 推送端点列表",
    response_model=WebhooksView,
    responses=openapi_problems(*CALL_PROBLEMS, _BANK),
)
async def list_webhooks(request: Request) -> Response:
    """Where the bank's events are sent, and how each queue stands."""
    caller = await _caller(request)
    async with _transaction(caller) as tx:
        found = await endpoints.read_all(tx, caller.bank)
        content = {"webhooks": [await _view(tx, one) for one in found]}
    return answered(200, content, caller.headers, request)


@router.get(
    "/{webhook_id}",
    summary="Read a webhook 查询推送端点",
    response_model=WebhookView,
    responses=openapi_problems(*_ONE),
)
async def read(request: Request, webhook_id: UUID) -> Response:
    """One webhook, and how its queue stands."""
    caller = await _caller(request)
    async with _transaction(caller) as tx:
        content = await _view(tx, await endpoints.read(tx, caller.bank, webhook_id))
    return answered(200, content, caller.headers, request)


@router.patch(
    "/{webhook_id}",
    summary="Change a webhook 修改推送端点",
    response_model=WebhookView,
    responses=openapi_problems(*BODY_PROBLEMS, *_ONE, "webhook-address-refused"),
    openapi_extra=openapi_body(model=WebhookChange),
)
async def change(request: Request, webhook_id: UUID) -> Response:
    """Another address, other kinds, a pause, or on again; also after an answer 410 disabled it. What waits is kept."""
    caller, body = await _caller_with(request, WebhookChange)
    if body.url is not None:
        await _require_address(caller.platform, body.url)
    async with _transaction(caller) as tx:
        wanted = Change(body.url, body.kinds, body.state)
        content = await _view(tx, await endpoints.change(tx, caller.bank, webhook_id, wanted, caller.at))
    return answered(200, content, caller.headers, request)


@router.delete(
    "/{webhook_id}",
    status_code=204,
    summary="Delete a webhook 删除推送端点",
    responses=openapi_problems(*_ONE),
)
async def delete(request: Request, webhook_id: UUID) -> Response:
    """With its secrets, its queue and its history. The events stay in the log and in GET /v1/events."""
    caller = await _caller(request)
    async with _transaction(caller) as tx:
        await endpoints.delete(tx, caller.bank, webhook_id)
    return Response(None, 204, caller.headers)


@router.post(
    "/{webhook_id}/secrets",
    status_code=201,
    summary="Rotate a webhook's secret 更换推送密钥",
    response_model=SecretView,
    responses=openapi_problems(*BODY_PROBLEMS, *_ONE),
    openapi_extra=openapi_body(model=SecretWanted),
)
async def rotate(request: Request, webhook_id: UUID) -> Response:
    """A new secret. For a while every delivery carries two signatures, so that a receiver changes when it likes; of the
    secrets before those two none signs any more."""
    caller, body = await _caller_with(request, SecretWanted)
    async with _transaction(caller) as tx:
        overlap = timedelta(hours=body.overlap_hours)
        secret, until = await endpoints.rotate(tx, caller.platform.keyring, caller.bank, webhook_id, overlap, caller.at)
    content = {"secret": secret, "former_until": until}
    return answered(201, content, caller.headers | _NOT_KEPT, request)


@router.post(
    "/{webhook_id}/test",
    status_code=202,
    summary="Send a test event 发送测试事件",
    response_model=QueuedView,
    responses=openapi_problems(*_ONE),
)
async def send_test(request: Request, webhook_id: UUID) -> Response:
    """Queue an event that says nothing, signed as all are; the list of attempts shows what became of it."""
    caller = await _caller(request)
    async with _transaction(caller) as tx:
        found = await endpoints.read(tx, caller.bank, webhook_id)
        name = await messages.queue_test(tx, found.webhook_id, caller.platform.fresh.id(), caller.at)
    return answered(202, {"message_id": name}, caller.headers, request)


@router.post(
    "/{webhook_id}/replay",
    status_code=202,
    summary="Replay events 重放事件",
    response_model=WebhookView,
    responses=openapi_problems(*BODY_PROBLEMS, *_ONE),
    openapi_extra=openapi_body(model=ReplayWanted),
)
async def replay(request: Request, webhook_id: UUID) -> Response:
    """Send everything from a place of the log on once more, in order, under the same ids."""
    caller, body = await _caller_with(request, ReplayWanted)
    async with _transaction(caller) as tx:
        found = await endpoints.replay(tx, caller.bank, webhook_id, body.from_index, caller.at)
        content = await _view(tx, found)
    return answered(202, content, caller.headers, request)


@router.get(
    "/{webhook_id}/messages",
    summary="List messages 消息列表",
    response_model=MessagesView,
    responses=openapi_problems(*_ONE),
)
async def list_messages(
    request: Request,
    webhook_id: UUID,
    state: Annotated[history.State | None, Query(description="dead: given up after the last attempt")] = None,
    before: Annotated[int | None, Query(ge=0, le=2**53, description="only events before this place")] = None,
    limit: Limit = 100,
) -> Response:
    """What waits, what was delivered in the last thirty days, and the dead letters."""
    caller = await _caller(request)
    async with _transaction(caller) as tx:
        await endpoints.read(tx, caller.bank, webhook_id)
        found = await history.read_messages(tx, webhook_id, state, before, limit)
    return answered(200, {"messages": [asdict(one) for one in found]}, caller.headers, request)


@router.post(
    "/{webhook_id}/messages/{message_id}/retry",
    status_code=202,
    summary="Send a message again 重发一条消息",
    response_model=QueuedView,
    responses=openapi_problems(*_ONE, "webhook-message-not-found"),
)
async def retry(request: Request, webhook_id: UUID, message_id: str) -> Response:
    """Send one event now, whatever became of it before; if that fails, by the schedule from its beginning."""
    caller = await _caller(request)
    async with _transaction(caller) as tx:
        await endpoints.read(tx, caller.bank, webhook_id)
        await messages.retry(tx, webhook_id, message_id, caller.at)
    return answered(202, {"message_id": message_id}, caller.headers, request)


@router.get(
    "/{webhook_id}/attempts",
    summary="List attempts 推送记录",
    response_model=AttemptsView,
    responses=openapi_problems(*_ONE),
)
async def list_attempts(request: Request, webhook_id: UUID, limit: Limit = 100) -> Response:
    """Every attempt of the last thirty days: when, which event, what was answered, how long it took."""
    caller = await _caller(request)
    async with _transaction(caller) as tx:
        await endpoints.read(tx, caller.bank, webhook_id)
        found = await history.read_attempts(tx, webhook_id, limit)
    return answered(200, {"attempts": [asdict(one) for one in found]}, caller.headers, request)


async def _view(tx: Connection, endpoint: Endpoint) -> dict[str, Any]:
    shown = {name: value for name, value in asdict(endpoint).items() if name not in ("bank", "taken_to")}
    queue = asdict(await history.read_queue(tx, endpoint.webhook_id))
    return {**shown, "webhook_id": str(endpoint.webhook_id), "queued_to": endpoint.taken_to, **queue}


async def _require_address(platform: Platform, url: str) -> None:
    """Raises Problem webhook-address-refused. What a name stands for is looked at again whenever it is connected to."""
    development = platform.settings.mode == "development"
    try:
        host, port = endpoints.checked_url(url, plain_allowed=development)
        if not development:
            await resolve(host, port, private_allowed=False)
    except UrlRefused as error:
        raise _refused(error.reason) from None
    except AddressRefused:
        raise _refused("private-address") from None
    except NameUnknown:
        raise _refused("name-unknown") from None


def _refused(reason: str) -> Problem:
    why = _REFUSED[reason]
    return Problem("webhook-address-refused", reason=reason, why_zh=why.zh, why_en=why.en)
