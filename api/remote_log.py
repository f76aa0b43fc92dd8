"""A platform's log over HTTP, as an auditor with a token reads it: what `service.audit.writing` exports from afar."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Any, Self

import httpx
import orjson

from api.oauth.bound import ASYNC_HOOKS
from ledger.tiles import Tile
from service.audit.source import ExportStopped, Interrupted, Keys, Offer, mark, range_path

TRIES = 6  # of a request that the platform, or the way to it, cannot serve just now: about half a minute
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
TIMEOUT_S = 120.0  # of silence: totals of a log that grew far beyond its checkpoint take their time
_LATER = frozenset({429, 502, 503, 504})


class RemoteLog:
    """The API of a platform, at its address.

    token    gives the auditor's token of this moment: it is asked again when the platform takes the last no longer
    pause_s  before the second try; it doubles with each further one
    """

    def __init__(
        self,
        url: str,
        token: Callable[[], str],
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        self.url, self._token, self._pause_s = url.rstrip("/"), token, pause_s
        self._bearer = token()
        self._client = httpx.AsyncClient(
            base_url=self.url, timeout=TIMEOUT_S, transport=transport, event_hooks=ASYNC_HOOKS
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def offer(self) -> Offer:
        found = orjson.loads(await self._need("/v1/audit/bundle"))
        return Offer(found["programme"], found["epoch"], found["witness_policy"])

    async def checkpoint(self, epoch: int) -> str | None:
        note = await self._get(f"{_prefix(epoch)}/checkpoint")
        return None if note is None else note.decode("utf-8")

    async def tile(self, epoch: int, tile: Tile) -> bytes:
        return await self._need(f"{_prefix(epoch)}/{tile.path}")

    def evidence(self, number: int, size: int) -> AsyncIterator[bytes]:
        return self._lines(f"/v1/audit/evidence/{range_path(number)}", {"size": str(size)})

    async def rule(self, digest: str) -> bytes | None:
        return await self._get(f"/v1/audit/rules/{digest}")

    async def document(self, digest: str) -> bytes | None:
        return await self._get(f"/v1/audit/documents/{digest}")

    def calls(self, number: int, size: int) -> AsyncIterator[bytes]:
        return self._lines(f"/v1/audit/calls/{range_path(number)}", {"size": str(size)})

    def reports(self, number: int, size: int) -> AsyncIterator[bytes]:
        return self._lines(f"/v1/audit/reports/{range_path(number)}", {"size": str(size)})

    def checkpoints(self, after: tuple[int, int], to: tuple[int, int]) -> AsyncIterator[bytes]:
        behind = {"after": mark(*after)} if after[0] else {}
        return self._lines("/v1/audit/checkpoints", behind | {"to": mark(*to)})

    def manifests(self, after: int, size: int) -> AsyncIterator[bytes]:
        behind = {"after": str(after)} if after >= 0 else {}
        return self._lines("/v1/audit/manifests", behind | {"size": str(size)})

    async def keys(self) -> Keys:
        found = orjson.loads(await self._need("/v1/audit/keys"))
        return Keys(found["log"], found["sources"], found["banks"])

    async def totals(self, size: int) -> bytes:
        return await self._need("/v1/audit/totals", {"size": str(size)})

    async def _need(self, path: str, params: Mapping[str, str] | None = None) -> bytes:
        content = await self._get(path, params)
        if content is None:
            raise ExportStopped(
                f"{self.url} 没有 {path}。", f"{self.url} has no {path}: is it this platform's address?"
            )
        return content

    async def _get(self, path: str, params: Mapping[str, str] | None = None) -> bytes | None:
        """An answer's body; None for what is not there."""
        for tried in range(TRIES):
            try:
                answer = await self._client.get(path, params=params, headers=self._headers())
            except httpx.TransportError as error:
                await self._pause(tried, str(error) or type(error).__name__)
                continue
            if answer.status_code == 404:
                return None
            if answer.is_success:
                return answer.content
            await self._again_or_stop(tried, answer)
        raise AssertionError("the last try stops")

    async def _lines(self, path: str, params: Mapping[str, str]) -> AsyncIterator[bytes]:
        """A body piece by piece. Raises Interrupted when it breaks off."""
        for tried in range(TRIES):
            request = self._client.build_request("GET", path, params=params, headers=self._headers())
            try:
                answer = await self._client.send(request, stream=True)
            except httpx.TransportError as error:
                await self._pause(tried, str(error) or type(error).__name__)
                continue
            try:
                if answer.is_success:
                    async for piece in answer.aiter_bytes():
                        yield piece
                    return
                await answer.aread()
            except httpx.TransportError as error:
                raise Interrupted(str(error)) from error
            finally:
                await answer.aclose()
            await self._again_or_stop(tried, answer)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._bearer}", "Accept-Language": "en"}

    async def _again_or_stop(self, tried: int, answer: httpx.Response) -> None:
        """Return where the same request may succeed now. Raises ExportStopped."""
        if answer.status_code in _LATER:
            after = answer.headers.get("retry-after", "")
            await self._pause(tried, f"status {answer.status_code}", float(after) if after.isdecimal() else None)
            return
        if answer.status_code == 401 and tried + 1 < TRIES and (fresh := self._token()) != self._bearer:
            self._bearer = fresh
            return
        zh, en = _TOKENS.get(answer.status_code, ("请把此答复告知平台运营方", "tell the platform's operator"))
        raise ExportStopped(
            f"平台答复 {answer.status_code}：{_detail(answer)}。{zh}。",
            f"the platform answered {answer.status_code}: {_detail(answer)} What to do: {en}.",
        )

    async def _pause(self, tried: int, why: str, wanted: float | None = None) -> None:
        if tried + 1 == TRIES:
            raise ExportStopped(
                f"无法从 {self.url} 读取（{why}）。请稍后重新执行同一命令，已导出的部分不会重新下载。",
                f"{self.url} cannot be read ({why}). Give the same command again later: it goes on where it stopped.",
            )
        await asyncio.sleep(min(LONGEST_PAUSE_S, wanted or self._pause_s * 2**tried) * random.uniform(0.8, 1.2))


_TOKENS = {
    401: (
        "请将有效的审计方令牌写入 --token-file 所指文件，重新执行同一命令",
        "put a valid auditor's token into the file of --token-file and give the same command again: it goes on",
    ),
    403: ("需要审计方令牌（权限 audit:read）", "a token of the role auditor is needed, with the scope audit:read"),
}


def _prefix(epoch: int) -> str:
    return "/log" if epoch == 1 else f"/log/epoch-{epoch}"


def _detail(answer: httpx.Response) -> str:
    """What a problem document says, else the beginning of the answer."""
    try:
        document: Any = answer.json()
        return str(document["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]
