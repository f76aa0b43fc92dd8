"""The state of an import that can be resumed: which file by which feed, how far it is recorded, and what it came to.

The file is written after each answered batch, by replacing it, so that it is whole whenever the program ends. What was
sent after it was written is asked for again and answered as before: `since_ms` and `unsure` say which of those answers
are this import's own.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from api.provider.report import ImportReport, ImportStopped
from api.provider.writing import writing
from service.feeds import Feed

_SCHEMA = 1


@dataclass(slots=True)
class State:
    """How far an import is.

    of          what is imported: describe() makes it
    done        events, and rows that become none, that are recorded, in the order the feed gives them
    rows        rows of the files that these stand for
    unsure      how many after them may have been sent
    since_ms    when the first of those may have been sent, Unix time
    refused_bytes, outcomes_bytes   how long these files were, None of one that is not written
    finished    nothing is left
    """

    path: Path
    of: dict[str, Any]
    done: int = 0
    rows: int = 0
    unsure: int = 0
    since_ms: int = 0
    refused_bytes: int | None = None
    outcomes_bytes: int | None = None
    finished: bool = False
    report: ImportReport = field(default_factory=ImportReport)

    def save(self) -> None:
        """Replace the file. Raises ImportStopped when it cannot be written."""
        document = {
            "schema": _SCHEMA,
            "of": self.of,
            "done": self.done,
            "rows": self.rows,
            "unsure": self.unsure,
            "since_ms": self.since_ms,
            "refused_bytes": self.refused_bytes,
            "outcomes_bytes": self.outcomes_bytes,
            "finished": self.finished,
            "report": self.report.in_full(),
        }
        new = self.path.with_name(self.path.name + ".new")
        with writing(self.path):
            new.write_bytes(orjson.dumps(document))
            new.replace(self.path)


def state_path(refused: Path) -> Path:
    """Where the state of an import stands: beside its refused file."""
    return refused.with_name(refused.name + ".state.json")


def describe(files: Sequence[Path], feed: Feed, platform: str | None, outcomes: Path | None) -> dict[str, Any]:
    """What an import is of: files by content, a feed by its digest, where it is sent, where its outcomes go."""
    return {
        "files": [_file(path) for path in files],
        "feed": {"id": feed.id, "sha256": hashlib.sha256(feed.model_dump_json().encode()).hexdigest()},
        "platform": platform,
        "outcomes": None if outcomes is None else str(outcomes.absolute()),
    }


def _file(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {
            "name": path.name,
            "bytes": path.stat().st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }


def read_state(path: Path, of: dict[str, Any]) -> State | None:
    """The state that an import of this left here; None when there is none. Raises ImportStopped for a state of
    something else, or a file that is no state."""
    try:
        document = orjson.loads(path.read_bytes())
        if document["schema"] != _SCHEMA:
            raise ValueError(document["schema"])
        fields = {name: document[name] for name in ("done", "rows", "unsure", "since_ms", "finished")}
        lengths = {name: document[name] for name in ("refused_bytes", "outcomes_bytes")}
        state = State(path, document["of"], **fields, **lengths, report=ImportReport.from_json(document["report"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ImportStopped(
            en=f"{path}: expected the state of an import; it cannot be read ({type(error).__name__}). "
            f"Leave --resume out to begin anew: {_ONCE[1]}",
            zh=f"{path}：应为导入状态文件，但无法读取（{type(error).__name__}）。请去掉 --resume 重新开始：{_ONCE[0]}",
        ) from error
    _require_same(path, state.of, of)
    return state


_ONCE = "已入账的不会重复入账。", "what was credited is not credited twice."


def _require_same(path: Path, was: dict[str, Any], now: dict[str, Any]) -> None:
    for name, (zh, en) in {
        "files": ("文件", "the file"),
        "feed": ("接入模板", "the feed"),
        "platform": ("平台 (--url)", "the platform (--url)"),
        "outcomes": ("结果文件 (--outcomes)", "the file of outcomes (--outcomes)"),
    }.items():
        if _key(was[name]) != _key(now[name]):
            said = _told(was[name]), _told(now[name])
            raise ImportStopped(
                en=f"{path} is the state of another import: {en} was {said[0]}, now it is {said[1]}. Give what it was, "
                f"or name another --refused file, or leave --resume out to begin anew: {_ONCE[1]}",
                zh=f"{path} 是另一次导入的状态：{zh}当时为 {said[0]}，现为 {said[1]}。请给出当时所用的，"
                f"或换一个 --refused 文件，或去掉 --resume 重新开始：{_ONCE[0]}",
            )


def _key(value: Any) -> Any:
    """What decides whether two are the same: of a file its content, not its name."""
    return [(file["bytes"], file["sha256"]) for file in value] if isinstance(value, list) else value


def _told(value: Any) -> str:
    match value:
        case None:
            return "–"
        case [*files]:
            return ", ".join(
                f"{file['name']} ({file['bytes']:,} bytes, sha256 {file['sha256'][:12]}…)" for file in files
            )
        case {"id": name, "sha256": digest}:
            return f"{name} (sha256 {digest[:12]}…)"
    return str(value)
