"""One delivery over HTTP: within its time, to a checked address, without following anybody elsewhere."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpcore

from service.webhooks.addresses import AddressRefused, NameUnknown, PinnedBackend

TIMEOUT_S = 15.0  # for all of it: resolving, connecting, sending and the answer's head
MOST_CONNECTIONS = 400  # of one worker, whose files are not without limit
_READ_AT_MOST = 4096  # of an answer, which means nothing but its status; read so that the connection can be used again
_HEADER_AT_MOST = 64  # characters; a date has 29
_KEPT_OPEN_S = 4.0  # less than the 5 seconds after which many servers close a connection that nobody uses


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an attempt.

    status       the receiver's, None when there was no answer
    fault        why it does not count as delivered, a code; None when it does
    duration_ms  of the attempt
    retry_after  the header of this name, as it came
    """

    status: int | None
    fault: str | None
    duration_ms: int
    retry_after: str | None = None


class Sender:
    """The connections of one worker."""

    def __init__(self, pool: httpcore.AsyncConnectionPool, timeout_s: float) -> None:
        self._pool, self._timeout_s = pool, timeout_s

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Post the body once; whatever happens is said in the answer."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        status, fault, retry_after = None, None, None
        try:
            async with asyncio.timeout(self._timeout_s):
                status, retry_after = await self._post(url, headers, body)
        except (TimeoutError, httpcore.TimeoutException):
            fault = "timed-out"
        except AddressRefused:
            fault = "address-refused"
        except NameUnknown:
            fault = "name-unknown"
        except httpcore.ConnectError as error:
            fault = "tls-failed" if _is_of_tls(error) else "not-reached"
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError):
            fault = "broken-off"
        else:
            fault = _fault_of(status)
        return Answer(status, fault, int((loop.time() - began) * 1000), retry_after)

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str | None]:
        sent = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
        async with self._pool.stream("POST", url, headers=sent, content=body) as response:
            read = 0
            async for chunk in response.aiter_stream():
                read += len(chunk)
                if read > _READ_AT_MOST:
                    break  # the connection is closed with the rest unread
            return response.status, _retry_after(response.headers)


def _retry_after(headers: list[tuple[bytes, bytes]]) -> str | None:
    found = next((value for name, value in headers if name.lower() == b"retry-after"), None)
    return None if found is None else found[:_HEADER_AT_MOST].decode("latin-1")


def _is_of_tls(error: BaseException | None) -> bool:
    """Whether TLS is behind it: the layers between wrap the error once each."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None


def _fault_of(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if status == 410:
        return "gone"
    return "redirected" if 300 <= status < 400 else "refused"


@asynccontextmanager
async def open_sender(
    *, private_allowed: bool, timeout_s: float = TIMEOUT_S, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Sender]:
    """A sender, until the end of the block.

    private_allowed   whether addresses of private networks are reached, as in development
    tls               whose certificates are believed; by default the machine's
    """
    async with httpcore.AsyncConnectionPool(
        ssl_context=tls or httpcore.default_ssl_context(),
        max_connections=MOST_CONNECTIONS,
        max_keepalive_connections=20,
        keepalive_expiry=_KEPT_OPEN_S,
        network_backend=PinnedBackend(private_allowed=private_allowed),
    ) as pool:
        yield Sender(pool, timeout_s)
