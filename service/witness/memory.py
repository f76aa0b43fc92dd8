"""What a witness has seen, in files: the last checkpoint of each log, byte for byte.

Whoever forgets what it saw can be shown another history, so a checkpoint is durable here before its cosignature leaves,
a file that cannot be read stops the witness instead of beginning anew, and one process alone works in the folder.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.errors import NoteInvalid
from ledger.notes import parse_note
from service.log.files import write_durably


class WitnessUnusable(Exception):
    """The witness cannot work with its folder; the message says what to do."""


class Memory:
    """The folder of a witness."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @contextmanager
    def held(self) -> Iterator[None]:
        """No other witness works in this folder meanwhile. Raises WitnessUnusable when one does."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise WitnessUnusable(f"nothing can be written in {self.directory}: {error}") from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WitnessUnusable(
                    f"another witness works in {self.directory}: stop it first. Two would cosign two histories"
                ) from None
            yield
        finally:
            os.close(handle)

    def path(self, origin: str) -> Path:
        """Where the last checkpoint of a log lies: a log's name is no file name."""
        return self.directory / "logs" / f"{sha256(origin.encode()).hexdigest()}.checkpoint"

    def read(self, origin: str) -> Checkpoint | None:
        """What was last cosigned of this log; None before the first. Raises WitnessUnusable."""
        path = self.path(origin)
        try:
            checkpoint = parse_checkpoint(parse_note(path.read_bytes()).text)
        except FileNotFoundError:
            return None
        except (OSError, NoteInvalid) as error:
            raise WitnessUnusable(
                f"{path} holds no checkpoint ({error}): restore it from a backup no older than the last cosignature. "
                "Without it this witness could be shown another history"
            ) from error
        if checkpoint.origin != origin:
            raise WitnessUnusable(f"{path} holds a checkpoint of {checkpoint.origin}, not of {origin}: put it back")
        return checkpoint

    def write(self, origin: str, note: str) -> None:
        """Remember this checkpoint, durably. Raises OSError."""
        write_durably(self.path(origin), note.encode())
