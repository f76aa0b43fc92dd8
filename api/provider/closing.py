"""A provider closes a day: from the outcomes it kept to a signed statement of what it sent.

The outcomes are a CSV with the columns id, scenario, outcome, reduction_mg and points, a row for each answer. `outcome`
is `credited`, `refused` (for good), `duplicate` (the event had come before) or `unkept` (refused, and nothing was
kept). With a column `at` (RFC 3339) the file may hold more than one day: the time of the answer, and for a credit that
of its `transfer_id`.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import jwt
import orjson

from api.problems import PROBLEM_TYPES
from api.provider.report import DUPLICATE, Fate, ImportStopped
from api.provider.writing import GrowingCsv
from service.clock import shanghai_day
from service.jws import read_public_key
from service.manifests import Claimed, Counts, Statement, statement_payload

OUTCOMES = ("credited", "refused", "duplicate", "unkept")
COLUMNS = ("id", "scenario", "outcome", "reduction_mg", "points")
_ALGORITHMS = {"OKP": "EdDSA", "EC": "ES256"}


@dataclass(slots=True)
class _Tally:
    outcomes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    reduction_mg: int = 0
    points: int = 0


def read_outcomes(path: Path, day: date) -> dict[str, Claimed]:
    """What a file of outcomes says was sent on this Asia/Shanghai day, by scenario.

    Raises ImportStopped, naming the line, for a row that cannot be read or an event that is decided twice.
    """
    try:
        return {scenario: _claimed(tally) for scenario, tally in _tallies(path, day).items()}
    except (csv.Error, UnicodeDecodeError) as error:
        raise _stopped(path, 1, f"不是 UTF-8 的 CSV（{error}）", f"it is no CSV in UTF-8 ({error})") from error


def _tallies(path: Path, day: date) -> Mapping[str, _Tally]:
    tallies: dict[str, _Tally] = defaultdict(_Tally)
    decided: dict[str, int] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise _stopped(path, 1, f"缺少列 {', '.join(missing)}", f"the columns {', '.join(missing)} are missing")
        for row in rows:
            line = rows.line_num
            if row.get("at") and _day_of(row["at"], path, line) != day:
                continue
            outcome = row["outcome"]
            if outcome not in OUTCOMES:
                raise _stopped(
                    path, line, f"outcome 应为 {', '.join(OUTCOMES)}", f"outcome is one of {', '.join(OUTCOMES)}"
                )
            if outcome in ("credited", "refused") and decided.setdefault(row["id"], line) != line:
                raise _stopped(
                    path, line, f"事件已在第 {decided[row['id']]} 行", f"line {decided[row['id']]} has this event too"
                )
            tally = tallies[row["scenario"]]
            tally.outcomes[outcome] += 1
            if outcome == "credited":
                tally.reduction_mg += _amount(row["reduction_mg"], "reduction_mg", path, line)
                tally.points += _amount(row["points"], "points", path, line)
    return tallies


class OutcomesFile(GrowingCsv):
    """The outcomes of an import as a CSV to close its days from, or nothing when no path is given."""

    heading = (*COLUMNS, "at")

    def write(self, event_id: str, scenario: str, fate: Fate, now: datetime) -> None:
        """One answer; a credit is of the moment its id tells, anything else of `now`."""
        if self.path is None:
            return
        at = now if fate.made_ms is None else datetime.fromtimestamp(fate.made_ms / 1000, UTC)
        amounts = ["", ""] if fate.reason else [fate.reduction_mg, fate.points]
        self.row([event_id, scenario, _outcome(fate), *amounts, at.isoformat()])


def _outcome(fate: Fate) -> str:
    if not fate.reason:
        return "credited"
    known = PROBLEM_TYPES.get(fate.reason.partition("/")[0])
    if known is not None:
        return "refused" if known.final else "unkept"
    return "duplicate" if fate.reason == DUPLICATE else "unkept"


def _claimed(tally: _Tally) -> Claimed:
    counts = Counts(tally.outcomes["credited"], tally.outcomes["refused"], tally.reduction_mg, tally.points)
    return Claimed(sum(tally.outcomes.values()), tally.outcomes["duplicate"], counts)


def _day_of(text: str, path: Path, line: int) -> date:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise _stopped(path, line, "at 应为带时区偏移的 RFC 3339 时间", "at is an RFC 3339 time with an offset")
    return shanghai_day(moment)


def _amount(text: str | None, name: str, path: Path, line: int) -> int:
    if text is None or not (text.isascii() and text.isdigit()):
        raise _stopped(path, line, f"{name} 应为非负整数", f"{name} is a whole number from 0")
    return int(text)


def _stopped(path: Path, line: int, zh: str, en: str) -> ImportStopped:
    return ImportStopped(
        zh=f"{path} 第 {line} 行：{zh}。请改正后重来。", en=f"{path}, line {line}: {en}. Correct it and start again."
    )


def read_private_key(path: Path) -> Mapping[str, str]:
    """A private JWK with its kid from a file. Raises ImportStopped for anything else."""
    try:
        key = json.loads(path.read_bytes())
        read_public_key(key)
        if not all(isinstance(key.get(name), str) for name in ("kid", "d")):
            raise ValueError("kid and d are missing")
    except (ValueError, AttributeError, TypeError, KeyError):
        raise ImportStopped(
            zh=f"{path} 不是带 kid 的 Ed25519 或 P-256 私钥 JWK。可用 `tanpuhui manifest key` 新建。",
            en=f"{path} is no private JWK of Ed25519 or P-256 with a kid: `tanpuhui manifest key` makes one.",
        ) from None
    found: Mapping[str, str] = key
    return found


def sign(statement: Statement, key: Mapping[str, str]) -> bytes:
    """The statement as a compact JWS under a private JWK."""
    algorithm = _ALGORITHMS[key["kty"]]
    private = jwt.get_algorithm_by_name(algorithm).from_jwk(dict(key))
    payload = orjson.dumps(statement_payload(statement))
    headers = {"kid": key["kid"], "typ": None}  # None: PyJWT would call it a JWT
    return jwt.PyJWS().encode(payload, private, algorithm, headers=headers).encode("ascii")
