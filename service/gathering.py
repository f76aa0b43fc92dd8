"""Questions that are asked at the same moment, put to the database in one statement."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from service.database import Connection, Pool

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

AT_ONCE = 256  # in one statement


class Gatherer(Generic[Asked, Answer]):
    """Puts what waits while a connection is being had into one call of `answer`: under load that is one round trip, and
    one commit, for dozens. Alone, a question waits for nobody."""

    def __init__(
        self, pool: Pool, answer: Callable[[Connection, Sequence[Asked]], Awaitable[Sequence[Answer]]]
    ) -> None:
        """`answer` gives an answer for each question, in their order, in a transaction of its own."""
        self._pool, self._answer = pool, answer
        self._waiting: list[tuple[Asked, asyncio.Future[Answer]]] = []
        self._flights: set[asyncio.Task[None]] = set()

    async def ask(self, question: Asked) -> Answer:
        """The answer, or what was raised for everybody who was asked about with it."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if len(self._waiting) == 1:
            flight = asyncio.create_task(self._fly())
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)
        return await asyncio.shield(future)

    async def _fly(self) -> None:
        asked: list[tuple[Asked, asyncio.Future[Answer]]] = []
        try:
            async with self._pool.acquire() as connection:
                asked, self._waiting = self._waiting, []
                answers: list[Answer] = []
                for start in range(0, len(asked), AT_ONCE):
                    some = [question for question, _ in asked[start : start + AT_ONCE]]
                    answers += await self._answer(connection, some)
        except Exception as error:
            failed = asked or self._waiting
            if not asked:  # no connection could be had
                self._waiting = []
            for _, future in failed:
                future.set_exception(error)
            return
        for (_, future), answer in zip(asked, answers, strict=True):
            future.set_result(answer)
