"""Asking witnesses to cosign a checkpoint: all at once, each within a time, and none of them is believed unverified.

A witness that fails is left alone for a while, longer each time, so that one that hangs holds nothing up again and
again; the next checkpoint asks it anew.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import structlog

from ledger.checkpoint import Checkpoint, parse_size
from ledger.errors import NoteInvalid, TileInvalid
from ledger.policy import Policy, Witness
from service.witness.protocol import PATH, SIZE_TYPE, encode_submission, seen_at

_log = structlog.get_logger(__name__)

ANSWER_MOST_BYTES = 65_536
ATTEMPTS = 3  # the first one to learn what the witness holds, one from there, one if somebody else came between
LONGEST_REST_S = 60.0
_KEPT_OPEN_S = 4.0  # less than the 5 seconds after which many servers close a connection that nobody uses

Proof = Callable[[int], Sequence[bytes]]
"""The proof that the checkpoint goes on from this size. Raises OSError, TileInvalid."""


class NotCosigned(Exception):
    """A witness did not cosign; the message says why."""


@dataclass(frozen=True, slots=True)
class Question:
    """A checkpoint to be cosigned: what it says, and `note`, the whole of it as the log signed it."""

    checkpoint: Checkpoint
    note: str
    proof: Proof

    @property
    def text(self) -> str:
        """What is signed."""
        return str(self.checkpoint)


@dataclass(slots=True)
class _Known:
    """What is remembered of one witness: what it holds of which log, its last line, how often it failed since."""

    sizes: dict[str, int] = field(default_factory=dict)
    cosigned: tuple[str, str] = "", ""
    failures: int = 0
    rests_until: float = 0.0


class Witnesses:
    """The witnesses of a policy, as the publisher asks them.

    missed  whether the checkpoint that was last shown lacks the quorum
    """

    def __init__(self, policy: Policy, timeout_s: float, client: httpx.AsyncClient) -> None:
        self.policy = policy
        self.missed = False
        self._timeout_s, self._client = timeout_s, client
        self._known = {witness: _Known() for witness in policy.witnesses}

    def lines_over(self, text: str) -> Mapping[Witness, str]:
        """The lines that came for this checkpoint."""
        return {witness: known.cosigned[1] for witness, known in self._known.items() if known.cosigned[0] == text}

    def awake(self) -> list[Witness]:
        """Who can be asked now: has an address, and did not fail a moment ago."""
        now = asyncio.get_running_loop().time()
        return [witness for witness, known in self._known.items() if witness.url and known.rests_until <= now]

    async def ask(self, question: Question, whom: Collection[Witness]) -> AsyncGenerator[Witness, None]:
        """Ask these, and yield each that cosigned, as its line comes; over after the time that each is given."""
        pending = {asyncio.create_task(self._try(witness, question)) for witness in whom}
        try:
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    witness = task.result()
                    if witness is not None:
                        yield witness
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _try(self, witness: Witness, question: Question) -> Witness | None:
        known = self._known[witness]
        try:
            async with asyncio.timeout(self._timeout_s):
                line = await self._cosign(witness, known, question)
        except TimeoutError:
            because = "it did not answer in time"
        except NotCosigned as error:
            because = str(error)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            because = f"it cannot be asked: {error or type(error).__name__}"
        except (OSError, TileInvalid) as error:
            because = f"the proof for it cannot be made: {error}"
        else:
            known.failures, known.cosigned = 0, (question.text, line)
            return witness
        known.failures += 1
        rest_s = min(LONGEST_REST_S, 2.0 ** min(known.failures - 1, 10))
        known.rests_until = asyncio.get_running_loop().time() + rest_s
        _log.warning("a witness did not cosign", witness=witness.name, because=because, asked_again_in_s=rest_s)
        return None

    async def _cosign(self, witness: Witness, known: _Known, question: Question) -> str:
        checkpoint = question.checkpoint
        old = min(known.sizes.get(checkpoint.origin, 0), checkpoint.size)
        for _ in range(ATTEMPTS):
            status, kind, body = await self._post(
                f"{witness.url}{PATH}", encode_submission(old, question.proof(old), question.note)
            )
            if status == 200:
                known.sizes[checkpoint.origin] = checkpoint.size
                return _line(question.text, body, witness)
            if status != 409 or kind != SIZE_TYPE:
                raise NotCosigned(f"it answered {status}: {body[:300].decode('utf-8', 'replace').strip()}")
            old = _size(body)
            if old > checkpoint.size:
                raise NotCosigned(
                    f"it has seen {checkpoint.origin} with {old} entries, and this checkpoint is of {checkpoint.size}: "
                    "unless another publisher was faster, the log has two histories"
                )
            known.sizes[checkpoint.origin] = old
        raise NotCosigned("what it has seen changes with every answer")

    async def _post(self, url: str, content: bytes) -> tuple[int, str, bytes]:
        """Status, media type and body of the answer."""
        async with self._client.stream("POST", url, content=content) as answer:
            body = bytearray()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > ANSWER_MOST_BYTES:
                    raise NotCosigned(f"it answered more than {ANSWER_MOST_BYTES} bytes")
            return answer.status_code, answer.headers.get("content-type", "").partition(";")[0].strip(), bytes(body)


def _line(text: str, body: bytes, witness: Witness) -> str:
    """The witness's own line out of an answer, verified."""
    try:
        for line in body.decode("utf-8").removesuffix("\n").split("\n"):
            if seen_at(text, f"{line}\n", witness.key) is not None:
                return f"{line}\n"
    except (UnicodeDecodeError, NoteInvalid) as error:
        raise NotCosigned(f"its answer is no cosignature: {error}") from None
    raise NotCosigned(f"its answer holds no cosignature by {witness.key}")


def _size(body: bytes) -> int:
    try:
        return parse_size(body.decode("utf-8").removesuffix("\n"))
    except (UnicodeDecodeError, NoteInvalid) as error:
        raise NotCosigned(f"it answered 409 without a size: {error}") from None


@asynccontextmanager
async def open_witnesses(policy: Policy, timeout_s: float) -> AsyncIterator[Witnesses]:
    """The witnesses of this policy, each of which may take so long."""
    limits = httpx.Limits(keepalive_expiry=_KEPT_OPEN_S)
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    async with httpx.AsyncClient(timeout=timeout_s, limits=limits, headers=headers) as client:
        yield Witnesses(policy, timeout_s, client)
