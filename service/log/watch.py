"""Whether anything may be posted: not while the database's history may be another than the one that was signed.

The publisher says so in the database. A process that can read what was signed, in the guard or in the log's files,
looks for itself as well, and so refuses what is posted to a restored database before the publisher has looked.
"""

import asyncio
from pathlib import Path
from typing import NoReturn

import structlog

from ledger.errors import NoteInvalid
from ledger.store import Connection
from service.database import FAULTS, Pool
from service.log.guard import Guard, GuardUnusable
from service.log.publish import newest_shown
from service.log.refusals import GUARD_AHEAD, GUARD_UNUSABLE

_log = structlog.get_logger(__name__)

REFRESH_S = 1.0

_STATE = "SELECT s.epoch, s.refused, h.size FROM ledger.log_state s, ledger.log_head h"


class PostingSuspended(Exception):
    """Nothing may be posted until an operator has decided; `code` is one of service/log/refusals.py."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Watch:
    """What is known of it in this process, at most REFRESH_S old while the database answers."""

    def __init__(self, guard: Guard, log_dir: Path) -> None:
        self._guard, self._log_dir = guard, log_dir
        self.refused: str | None = None

    def require(self) -> None:
        """Raises PostingSuspended while nothing may be posted."""
        if self.refused is not None:
            raise PostingSuspended(self.refused)

    async def refresh(self, connection: Connection) -> None:
        """Look again."""
        promised = await asyncio.to_thread(self._promised)  # before the log's size: that is only ever larger
        state = await connection.fetchrow(_STATE)
        assert state is not None
        refused: str | None = state["refused"]
        if refused is None and promised is None:
            refused = GUARD_UNUSABLE
        elif refused is None and promised is not None and promised > (state["epoch"], state["size"]):
            refused = GUARD_AHEAD
        if refused != self.refused:
            _log.error("posting is suspended" if refused else "posting goes on", because=refused)
        self.refused = refused

    def _promised(self) -> tuple[int, int] | None:
        """Epoch and size of what was signed, zeros where this process sees nothing of it; None for a guard that is
        none."""
        found = (0, 0)
        try:
            signed = self._guard.read()
            if signed is not None:
                found = signed.epoch, signed.size
        except GuardUnusable as error:
            if not isinstance(error.__cause__, PermissionError):  # only the publisher needs to see it
                return None
        try:
            shown = newest_shown(self._log_dir)
        except (OSError, NoteInvalid):
            shown = None  # damaged: that is for the publisher to say
        return max(found, (shown[0], shown[1].size) if shown else (0, 0))


async def keep_watching(pool: Pool, watch: Watch) -> NoReturn:
    """Refresh for as long as the process serves. While the database is away nothing can be posted in any case."""
    while True:
        await asyncio.sleep(REFRESH_S)
        try:
            async with pool.acquire() as connection:
                await watch.refresh(connection)
        except FAULTS as error:
            _log.warning("the log's state could not be read", because=type(error).__name__)
