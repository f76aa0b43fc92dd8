"""A bundle's folder while it is written: what is kept of an earlier export, what is new, and the list of both.

A file appears under its name whole or not at all. While an export is under way there is no bundle.json, but a folder
`.export` with the state to go on from; at the end bundle.json is put there at once, and `.export` goes.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from ledger.bundle import MANIFEST, BundleUnreadable, FileUnreadable, Listed, canonical, parse_json, read_bundle
from service.audit.source import ExportStopped

UNDER_WAY = ".export"
_STATE, _PART = f"{UNDER_WAY}/state.json", f"{UNDER_WAY}/part"
_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Before:
    """What an earlier export left: of which log, and what of it is listed. An unfinished one lists what it kept."""

    programme: str
    origin: str
    epoch: int
    size: int
    root: str
    files: Mapping[str, Listed]

    def as_json(self) -> dict[str, Any]:
        return {
            "programme": self.programme,
            "origin": self.origin,
            "epoch": str(self.epoch),
            "size": str(self.size),
            "root": self.root,
            "files": {path: {"bytes": str(one.length), "sha256": one.digest} for path, one in self.files.items()},
        }


class Folder:
    """The folder, and what is to be listed of it.

    files    what the new bundle will list
    kept     how many files of an earlier export were kept
    written  how many were written anew
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files: dict[str, Listed] = {}
        self.kept = self.written = 0
        self._known: Mapping[str, Listed] = {}

    @contextmanager
    def held(self) -> Iterator[None]:
        """No other export writes here meanwhile. Raises ExportStopped, also for a folder of something else."""
        self.directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ExportStopped(
                    f"另一个导出正在写入 {self.directory}，请等它结束。",
                    f"another export is writing to {self.directory}: wait for it to end.",
                ) from None
            yield
        finally:
            os.close(handle)

    def read_before(self) -> Before | None:
        """What an earlier export left; None in an empty folder. Raises ExportStopped for anything else."""
        if (self.directory / MANIFEST).exists():
            try:
                bundle = read_bundle(self.directory)
            except BundleUnreadable as error:
                raise _strange(self.directory, str(error)) from None
            return Before(bundle.programme, bundle.origin, bundle.epoch, bundle.size, bundle.root, bundle.files)
        if (self.directory / _STATE).exists():
            return _state((self.directory / _STATE).read_bytes(), self.directory)
        if any(path.name != UNDER_WAY for path in self.directory.iterdir()):
            raise _strange(self.directory, "bundle.json is missing, and the folder is not empty")
        return None

    def require_unchanged(self, before: Before, stays: Callable[[str], bool], on_bytes: Callable[[int], None]) -> None:
        """Hold every listed file against the list; of those that `stays` says may stay, the right ones are kept.

        Raises ExportStopped for a file with other bytes. One that is missing is written anew.
        """
        known = {}
        for path, listed in before.files.items():
            found = self._digest(path)
            if found is not None and found != listed:
                raise ExportStopped(
                    f"{self.directory / path} 与上次导出时不同，未作任何改动。若确知原因，可删除该文件后重试；"
                    "否则请保留此文件夹，另选一个空文件夹导出并比较。",
                    f"{self.directory / path} has other bytes than when it was exported, and nothing was changed. If "
                    "you know why, delete that file and export again; else keep this folder as it is, export into an "
                    "empty one, and compare the two.",
                )
            if found is not None and stays(path):
                known[path] = listed
            on_bytes(listed.length)
        self._known = known

    def begin(self, programme: str, origin: str, epoch: int, size: int, root: str) -> None:
        """From here on, until `finish`, the folder is no bundle but an export of this log under way."""
        (self.directory / UNDER_WAY).mkdir(exist_ok=True)
        self._put(_STATE, canonical(Before(programme, origin, epoch, size, root, self._known).as_json()))
        (self.directory / MANIFEST).unlink(missing_ok=True)

    def rename(self, old: str, new: str) -> None:
        """Move a file or folder to where it belongs from now on, if it is still there."""
        if (self.directory / old).exists():
            (self.directory / new).parent.mkdir(parents=True, exist_ok=True)
            (self.directory / old).rename(self.directory / new)
        self._known = {
            new + path[len(old) :] if path == old or path.startswith(f"{old}/") else path: listed
            for path, listed in self._known.items()
        }

    def drop(self, path: str) -> None:
        """Take a file or a folder of the bundle away."""
        found = self.directory / path
        if found.is_dir():
            shutil.rmtree(found)
        else:
            found.unlink(missing_ok=True)
        self._known = {
            known: listed for known, listed in self._known.items() if known != path and not known.startswith(f"{path}/")
        }

    def keeps(self, path: str) -> bool:
        """Whether this file is there from an export that was finished; it is listed then."""
        if path not in self._known:
            return False
        self.files[path] = self._known[path]
        self.kept += 1
        return True

    def adopt(self, path: str) -> bool:
        """List a file that an export wrote before it was stopped; whether it is there."""
        found = self._digest(path)
        if found is None:
            return False
        self.files[path] = found
        self.kept += 1
        return True

    def read(self, path: str) -> bytes | None:
        """A file's bytes; None where there is none."""
        try:
            return (self.directory / path).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, path: str, content: bytes) -> None:
        """Put a file there and list it."""
        self._put(path, content)
        self.files[path] = Listed(len(content), sha256(content).hexdigest())
        self.written += 1

    @contextmanager
    def writing(self, path: str) -> Iterator[BinaryIO]:
        """A file to be written piece by piece; it is put there and listed at the end."""
        with (self.directory / _PART).open("wb") as file:
            yield file
        self.place(path, self.directory / _PART)

    def place(self, path: str, made: Path) -> None:
        """Put a file that was made beside the bundle there, and list it."""
        target = self.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        made.replace(target)
        self.adopt(path)
        self.kept, self.written = self.kept - 1, self.written + 1

    @property
    def beside(self) -> Path:
        """Where files are made before they are placed."""
        return self.directory / UNDER_WAY

    def finish(self, fields: Mapping[str, Any]) -> int:
        """Put bundle.json there; the bytes of everything that it lists."""
        files = {path: {"bytes": str(one.length), "sha256": one.digest} for path, one in self.files.items()}
        self._drop_unlisted_tiles()
        made = self.directory / _PART
        with made.open("wb") as file:
            file.write(canonical({**fields, "files": files}) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        made.replace(self.directory / MANIFEST)
        shutil.rmtree(self.directory / UNDER_WAY)
        return sum(one.length for one in self.files.values())

    def _drop_unlisted_tiles(self) -> None:
        """Partial tiles of a smaller log."""
        for folder in ("log", "epochs"):
            for path in sorted((self.directory / folder).rglob("*.p/*")):
                if path.relative_to(self.directory).as_posix() not in self.files:
                    path.unlink()
                    if not any(path.parent.iterdir()):
                        path.parent.rmdir()

    def _put(self, path: str, content: bytes) -> None:
        made, target = self.directory / _PART, self.directory / path
        made.write_bytes(content)
        try:
            made.replace(target)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.replace(target)

    def _digest(self, path: str) -> Listed | None:
        digest, length = sha256(), 0
        try:
            with (self.directory / path).open("rb") as file:
                while part := file.read(_AT_ONCE):
                    digest.update(part)
                    length += len(part)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Listed(length, digest.hexdigest())


def _state(raw: bytes, directory: Path) -> Before:
    try:
        fields = parse_json(raw)
        files = {path: Listed(int(one["bytes"]), one["sha256"]) for path, one in fields.pop("files").items()}
        return Before(**fields | {"epoch": int(fields["epoch"]), "size": int(fields["size"]), "files": files})
    except (FileUnreadable, AttributeError, KeyError, TypeError, ValueError) as error:
        raise _strange(directory, f"the state of an unfinished export cannot be read: {error}") from None


def _strange(directory: Path, why: str) -> ExportStopped:
    return ExportStopped(
        f"{directory} 不是可以继续的审计包（{why}）。请另选一个空文件夹。",
        f"{directory} is no bundle that could be continued ({why}): name an empty folder.",
    )
