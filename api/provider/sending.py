"""One request, sent until it is answered, within the bounds of patience."""

import asyncio
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from itertools import count
from typing import NamedTuple

import httpx
import orjson

from api.provider.report import ImportStopped
from service.feeds import Bilingual

# Connection refused, cut off, half an answer, no answer in time
_PASSING = (TimeoutError, httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError)
_PASSING_STATUS = {408, 429, 500, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a fault that may pass is borne: back-off with full jitter, all in seconds.

    total_s   for one request, from its first attempt; a restart of the platform fits in
    timeout_s for one attempt; a batch in a long queue fits in
    """

    first_s: float = 0.2
    longest_s: float = 10.0
    total_s: float = 300.0
    timeout_s: float = 60.0


class Sent(NamedTuple):
    response: httpx.Response
    attempts: int


@dataclass(slots=True)
class Bearer:
    """An access token that may end while it is in use.

    text    the token
    renew   gives the token of now, such as what a file holds; None when there is no other to be had
    waits   told once each time when the platform refuses the token and there is no other yet
    """

    text: str
    renew: Callable[[], str] | None = None
    waits: Callable[[], None] | None = None
    _accepted: bool = field(default=False, init=False)
    _waiting: bool = field(default=False, init=False)

    def answered(self, status: int) -> None:
        """Learn from an answer whether the token was taken."""
        if status != 401:
            self._accepted, self._waiting = True, False

    def another_than(self, refused: str) -> bool:
        """Whether there is another token than this, which was refused."""
        if self.text == refused and self.renew is not None:
            self.text = self.renew() or self.text
        return self.text != refused

    def worth_waiting(self) -> bool:
        """Whether another may come: this one was taken before, so it has ended."""
        if self.renew is None or not self._accepted:
            return False
        if not self._waiting and self.waits is not None:
            self.waits()
        self._waiting = True
        return True


def headers_of(token: str, content_type: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Content-Type": content_type}


async def send(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    body: bytes,
    headers: dict[str, str],
    patience: Patience,
    usable: Callable[[httpx.Response], bool] = lambda _: True,
    bearer: Bearer | None = None,
) -> Sent:
    """The first answer that is no passing fault, after as many attempts as patience allows. Raises ImportStopped.

    bearer   whose token is sent instead of the one in `headers`; one that has ended is replaced, or waited for
    """
    deadline = time.monotonic() + patience.total_s
    for attempt in count():
        asked_s = None
        if bearer is not None:
            token = bearer.text
            headers = headers | {"Authorization": f"Bearer {token}"}
        try:
            async with asyncio.timeout(patience.timeout_s):  # httpx bounds each read, not the whole
                response = await client.request(method, url, content=body, headers=headers, timeout=patience.timeout_s)
        except _PASSING as error:
            fault = f"{type(error).__name__} {error}".strip()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ImportStopped(
                en=f"Expected an address such as http://127.0.0.1:8000; {client.base_url} cannot be asked ({error}). "
                "Mend the address.",
                zh=f"应为形如 http://127.0.0.1:8000 的地址；无法访问 {client.base_url}（{error}）。请更正地址。",
            ) from error
        else:
            if bearer is not None:
                bearer.answered(response.status_code)
                if response.status_code == 401 and time.monotonic() < deadline:
                    if bearer.another_than(token):
                        continue
                    if bearer.worth_waiting():
                        await asyncio.sleep(min(patience.longest_s, 1.0, max(0.0, deadline - time.monotonic())))
                        continue
            if response.status_code not in _PASSING_STATUS and usable(response):
                return Sent(response, attempt + 1)
            fault = f"{response.status_code} {_said(response)}".strip()
            asked_s = _retry_after_s(response)
        ceiling_s = min(patience.longest_s, patience.first_s * 2 ** min(attempt, 30))
        wait_s = random.uniform(0, ceiling_s) if asked_s is None else asked_s + random.uniform(0, patience.first_s)
        if time.monotonic() + wait_s > deadline:
            raise ImportStopped(
                en=f"{method} {url}: expected an answer within {patience.total_s:g} s; "
                f"after {attempt + 1} attempts came {fault}. "
                "See that the platform runs, then start again: what was credited is not credited twice.",
                zh=f"{method} {url}：应在 {patience.total_s:g} 秒内得到答复；尝试 {attempt + 1} 次后为 {fault}。"
                "请确认平台正在运行后重新开始：已入账的不会重复入账。",
            )
        await asyncio.sleep(wait_s)
    raise AssertionError("count() does not end")


def _retry_after_s(response: httpx.Response) -> float | None:
    """What Retry-After asks for, in seconds or as a date (RFC 9110, 10.2.3); None when it is absent or unreadable."""
    text = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def stop_unless_done(response: httpx.Response) -> None:
    """Raises ImportStopped for every answer but 2xx, with what to do about it."""
    if response.is_success:
        return
    match response.status_code:
        case 401:
            do = Bilingual(
                en="Get a new token (in the file of --token-file, where one is used) and start again.",
                zh="请换用新的访问令牌（使用 --token-file 时更新该文件）后重新开始。",
            )
        case 403:
            do = Bilingual(
                en="Use a token with the scope and the source this needs.", zh="请使用具有所需权限范围和数据方的令牌。"
            )
        case 413:
            do = Bilingual(en="Post smaller batches.", zh="请减小每批条数。")
        case 415:
            do = Bilingual(en="Use the program of the same version as the platform.", zh="请使用与平台版本一致的程序。")
        case _:
            do = Bilingual(en="Check the address and the versions.", zh="请检查地址与版本。")
    raise _stopped(response, do.en, do.zh)


def _stopped(response: httpx.Response, en: str, zh: str) -> ImportStopped:
    asked = f"{response.request.method} {response.request.url.path}"
    said = f"{response.status_code} {_said(response)}".strip()
    return ImportStopped(
        en=f"{asked}: expected success; came {said}. {en} What was credited is not credited twice.",
        zh=f"{asked}：应成功；实为 {said}。{zh}已入账的不会重复入账。",
    )


def _said(response: httpx.Response) -> str:
    """What a problem document says of itself, in a line; nothing of any other body."""
    try:
        problem = orjson.loads(response.content)
        return f"{problem['title']}: {problem.get('detail', '')}"[:300]
    except (ValueError, KeyError, TypeError):
        return ""
