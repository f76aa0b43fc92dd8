"""One request, sent until it is answered, within the bounds of patience."""

import asyncio
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import count
from typing import NamedTuple

import httpx
import orjson

from api.provider.outcomes import ImportStopped
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
) -> Sent:
    """The first answer that is no passing fault, after as many attempts as patience allows. Raises ImportStopped."""
    deadline = time.monotonic() + patience.total_s
    for attempt in count():
        asked_s = None
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
            do = Bilingual(en="Get a new token and start again.", zh="请换用新的访问令牌后重新开始。")
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
