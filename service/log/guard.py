"""The fork guard: what was last signed, kept outside the database and outside its data directory.

A log that signed two histories has broken its only promise, and whoever restores an older database would do just that.
So before a checkpoint is shown to anybody it is written here, durably; nothing is signed that does not go on from it;
and while the guard is ahead of the database nothing may be posted either (docs/operations.md says what to do then).
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.errors import NoteInvalid
from ledger.notes import parse_note
from service.log.files import write_durably


class GuardUnusable(Exception):
    """The guard's file cannot be read as one; the message says what to do."""


class GuardHeld(Exception):
    """Another publisher holds the guard: it signs, this one waits."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What was last signed: the checkpoint's bytes, or None when an epoch began and nothing was signed in it yet."""

    epoch: int
    note: str | None

    @property
    def checkpoint(self) -> Checkpoint | None:
        return None if self.note is None else parse_checkpoint(parse_note(self.note).text)

    @property
    def key_ids(self) -> set[bytes]:
        """The ids of the log's own keys that signed it."""
        if self.note is None or self.checkpoint is None:
            return set()
        return {line.key_id for line in parse_note(self.note).signatures if line.name == self.checkpoint.origin}

    @property
    def size(self) -> int:
        """How many entries were promised in this epoch."""
        return self.checkpoint.size if self.checkpoint else 0


class Guard:
    """The guard's file, and the lock under which it is moved on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Signed | None:
        """What was last signed; None where there is no guard yet. Raises GuardUnusable."""
        try:
            fields = json.loads(self.path.read_text("utf-8"))
            signed = Signed(fields["epoch"], fields["note"])
            if type(signed.epoch) is not int or signed.epoch < 1 or signed.size < 0:
                raise ValueError("epoch is a number from 1 on")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, NoteInvalid) as error:
            raise GuardUnusable(
                f"{self.path} is not a guard's file ({error}): restore it from its backup, or follow "
                '"The guard is lost" in docs/operations.md'
            ) from error
        return signed

    def write(self, signed: Signed) -> None:
        """Remember this as the last signed. Call it under `held`, before anybody sees the checkpoint."""
        text = json.dumps({"epoch": signed.epoch, "note": signed.note}, indent=1)
        write_durably(self.path, text.encode() + b"\n")

    @contextmanager
    def held(self) -> Iterator[None]:
        """No other publisher of this machine signs meanwhile. Raises GuardHeld at once when one does, GuardUnusable."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise GuardUnusable(f"nothing can be written beside {self.path}: {error}") from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise GuardHeld(f"another publisher holds {self.path}") from None
            yield
        finally:
            os.close(handle)
