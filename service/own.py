"""Reading for a participant as the database's role that sees that participant's rows and no others."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from uuid import UUID

from service.database import Connection, Pool

_ROLE = "tanpuhui_self"


@asynccontextmanager
async def own_rows(pool: Pool, *participant_ids: UUID) -> AsyncIterator[Connection]:
    """A connection on which, for the length of the block, no other participants' rows exist and nothing can be written.

    A statement that forgets to ask for whose rows it wants then finds these participants', and one that asks for
    somebody else's finds nothing.
    """
    async with pool.acquire() as connection, seeing_only(connection, participant_ids):
        yield connection


@asynccontextmanager
async def seeing_only(connection: Connection, participant_ids: Iterable[UUID]) -> AsyncIterator[None]:
    """The same over a connection that is at hand, outside any transaction; one message at its beginning, one at its
    end."""
    whose = ",".join(str(UUID(int=each.int)) for each in participant_ids)  # nothing but hexadecimal digits and dashes
    await connection.execute(
        f"BEGIN READ ONLY; SET LOCAL ROLE {_ROLE}; SET LOCAL tanpuhui.participants = '{{{whose}}}'"
    )
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("ROLLBACK")
