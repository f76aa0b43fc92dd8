"""What a replay says, as stable JSON and as text in Chinese or English. The page with charts is in page.py."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import orjson

from ledger.verify.findings import CODES as VERIFY_CODES
from ledger.verify.findings import LEFT as VERIFY_LEFT
from ledger.verify.findings import MOST_SHOWN, Finding, Findings
from service.audit.completeness import Compared, Counts
from service.audit.findings import CODES, LEFT, LIMITS, Words
from service.audit.replay import WAITING_CLAIM, Replay, Total

VERSION = "1"
MOST_LINES = 10  # of one code, in the text; the JSON and the page have up to MOST_SHOWN

Language = Literal["zh", "en"]
LANGUAGES: tuple[Language, ...] = ("zh", "en")


class Told(NamedTuple):
    """Findings of one code: by which part of the work, what should hold, how many, and the first of them."""

    part: str
    code: str
    words: Words
    times: int
    shown: Sequence[Finding]


class Undecided(NamedTuple):
    """Something that could not be checked: how often, and the first entry or name."""

    part: str
    code: str
    words: Words
    times: int
    first: str


def told(replay: Replay) -> list[Told]:
    """Every finding, those of the verification first, by code."""
    return [
        *_told("verify", replay.verified.findings, VERIFY_CODES),
        *_told("replay", replay.findings, CODES),
    ]


def _told(part: str, findings: Findings, codes: Mapping[str, Words]) -> Iterator[Told]:
    for code, words in codes.items():
        if findings.counts[code]:
            shown = [one for one in findings.shown if one.code == code]
            shown.sort(key=lambda one: (-1 if one.index is None else one.index, one.where))
            yield Told(part, code, words, findings.counts[code], shown)


def undecided(replay: Replay) -> list[Undecided]:
    """What stays open, that of the verification first."""
    verified = [
        Undecided("verify", left.code, VERIFY_LEFT[left.code], left.count, left.first)
        for left in replay.verified.left
        if left.code != WAITING_CLAIM  # decided by the replay
    ]
    open_ = replay.open
    return verified + [
        Undecided("replay", code, LEFT[code], open_.counts[code], open_.first[code])
        for code in LEFT
        if open_.counts[code]
    ]


def document(replay: Replay) -> dict[str, Any]:
    """The report as JSON has it. Fields are added, never renamed; amounts are texts, as they may exceed 2^53."""
    found = told(replay)
    return {
        "v": VERSION,
        "bundle": {
            "directory": str(replay.bundle.directory),
            "programme": replay.bundle.programme,
            "created_at": replay.bundle.created_at,
            **replay.verified.log,
        },
        "clean": replay.clean,
        "checked": {"verify": replay.verified.checked, "replay": replay.checked},
        "findings": [
            {
                "part": each.part,
                "code": each.code,
                "index": one.index,
                "where": one.where,
                "expected": one.expected,
                "found": one.found,
            }
            for each in found
            for one in each.shown
        ],
        "counts": {part: {one.code: one.times for one in found if one.part == part} for part in ("verify", "replay")},
        "not_checked": [
            {"part": one.part, "code": one.code, "count": one.times, "first": one.first} for one in undecided(replay)
        ],
        "totals": [_total(one) for one in replay.totals],
        "completeness": {
            "days": [_day(one) for one in replay.days],
            "sources": [
                {"source": one.source, "days_closed": one.closed, "days_open": list(one.open)}
                for one in replay.closings
            ],
        },
        "rules": [one._asdict() for one in replay.rules],
        "redemptions": [
            dict(zip(("programme", "pool", "bank", "month", "kind"), key, strict=True))
            | {"steps": one.steps, "units": one.units, "points": str(one.points), "value_fen": str(one.value_fen)}
            for key, one in sorted(replay.verified.redeemed.items())
        ],
        "samples": [
            {
                "number": one.number,
                "index": one.entry,
                "kind": one.kind,
                "participant": one.participant,
                "source": one.source,
                "day": one.day,
                "event": one.event,
            }
            for one in replay.samples
        ],
        "limits": [english for english, _ in LIMITS],
        "remembered": replay.verified.remembered,
    }


def as_json(replay: Replay) -> str:
    """One line of JSON."""
    return orjson.dumps(document(replay)).decode("utf-8")


def _total(one: Total) -> dict[str, Any]:
    amounts = ("reduction_mg", "points", "campaign_points", "reversed_mg", "reversed_points")
    return {name: str(value) if name in amounts else value for name, value in one._asdict().items()}


def _day(one: Compared) -> dict[str, Any]:
    return {
        "source": one.source,
        "day": one.day,
        "sequence": one.sequence,
        "index": one.entry,
        "scenario": one.scenario,
        "agrees": one.agrees,
        "claimed": _counts(one.claimed),
        "received": _counts(one.received),
        "logged": _counts(one.logged),
    }


def _counts(counts: Counts | None) -> dict[str, Any] | None:
    if counts is None:
        return None
    return {
        "credited": counts.credited,
        "reduction_mg": str(counts.reduction_mg),
        "points": str(counts.points),
        "refused": counts.refused,
    }


def as_text(replay: Replay, languages: Sequence[Language] = LANGUAGES) -> Iterator[str]:
    """The lines for people, in each of the languages one after the other."""
    for number, language in enumerate(languages):
        if number:
            yield ""
        yield from map(_printable, _Text(replay, language).lines())


def grams(mg: int) -> str:
    """Milligrams as grams, exact: `82.273 g`."""
    return f"{'-' if mg < 0 else ''}{abs(mg) // 1000:,}.{abs(mg) % 1000:03} g"


def _printable(line: str) -> str:
    """A line as a terminal may have it: what a bundle says could otherwise move its cursor."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in line)


class _Text:
    """One language's half."""

    def __init__(self, replay: Replay, language: Language) -> None:
        self.replay, self.language = replay, language

    def say(self, zh: str, en: str) -> str:
        return zh if self.language == "zh" else en

    def words(self, words: Words) -> str:
        return self.say(words[1], words[0])

    def lines(self) -> Iterator[str]:
        replay, log = self.replay, self.replay.verified.log
        yield self.say(f"审计重放报告 {replay.bundle.directory}", f"Replay of {replay.bundle.directory}")
        yield self.say(
            f"日志 {log['origin']}，纪元 {log['epoch']}，条目 {replay.size:,}，导出于 {replay.bundle.created_at}",
            f"log {log['origin']}, epoch {log['epoch']}, {replay.size:,} entries, exported {replay.bundle.created_at}",
        )
        yield self.say(f"根哈希 {log['root']}", f"root {log['root']}")
        yield self.verdict()
        checked = {**replay.verified.checked, **replay.checked}
        listed = ", ".join(f"{name} {count:,}" for name, count in checked.items())
        yield self.say(f"已核对：{listed}", f"checked: {listed}")
        for title, part in (
            (("发现的问题", "Findings"), self._findings()),
            (("未能核对", "Not checked"), self._undecided()),
            (("合计", "Totals"), self._totals()),
            (("兑换", "Redemptions"), self._redemptions()),
            (("完整性", "Completeness"), self._completeness()),
            (("规则文档", "Rules"), self._rules()),
            (("抽样", "Samples"), self._samples()),
            (("审计包不能证明的", "What no bundle shows"), (f"  {self.words(words)}" for words in LIMITS)),
        ):
            found = list(part)
            if found:
                yield from ("", self.say(*title), *found)

    def verdict(self) -> str:
        found = told(self.replay)
        if not found:
            return self.say("结论：未发现问题", "verdict: nothing was found")
        total = sum(one.times for one in found)
        return self.say(
            f"结论：发现 {total:,} 处问题，涉及 {len(found)} 类",
            f"verdict: {total:,} findings under {len(found)} codes",
        )

    def _findings(self) -> Iterator[str]:
        for each in told(self.replay):
            yield self.say(
                f"  {each.code} × {each.times:,}（应当：{self.words(each.words)}）",
                f"  {each.code} × {each.times:,} (expected that {self.words(each.words)})",
            )
            for one in each.shown[:MOST_LINES]:
                place = "" if one.index is None else self.say(f"条目 {one.index} ", f"entry {one.index} ")
                where = f"{one.where} " if one.where else ""
                yield self.say(
                    f"    {place}{where}应为 {one.expected}；实为 {one.found}",
                    f"    {place}{where}expected {one.expected}; found {one.found}",
                )
            more = each.times - min(len(each.shown), MOST_LINES)
            if more:
                kept = f"{MOST_SHOWN}"
                yield self.say(
                    f"    … 另有 {more:,} 处（--json 与 --html 每类至多列 {kept} 处）",
                    f"    … {more:,} more (--json and --html list up to {kept} of each)",
                )

    def _undecided(self) -> Iterator[str]:
        for one in undecided(self.replay):
            yield f"  {one.code} × {one.times:,} ({one.first}): {self.words(one.words)}"

    def _totals(self) -> Iterator[str]:
        by: dict[tuple[str, str], list[int]] = {}
        for one in self.replay.totals:
            sums = by.setdefault((one.scenario, one.source), [0] * 5)
            for place, value in enumerate(
                (one.credits, one.reduction_mg, one.points, one.reversed_mg, one.reversed_points)
            ):
                sums[place] += value
        for (scenario, source), (credits, mg, points, back_mg, back_points) in sorted(by.items()):
            yield self.say(
                f"  {scenario} {source}：{credits:,} 笔，{grams(mg)}，{points:,} 分；冲正 {grams(back_mg)}，"
                f"{back_points:,} 分",
                f"  {scenario} {source}: {credits:,} credits, {grams(mg)}, {points:,} points; taken back "
                f"{grams(back_mg)}, {back_points:,} points",
            )

    def _redemptions(self) -> Iterator[str]:
        for (_, pool, bank, month, kind), one in sorted(self.replay.verified.redeemed.items()):
            yuan = f"{one.value_fen // 100:,}.{one.value_fen % 100:02}"
            yield self.say(
                f"  {month} {pool} {bank} {kind}：{one.steps:,} 笔，{one.units:,} 份，{one.points:,} 分，{yuan} 元",
                f"  {month} {pool} {bank} {kind}: {one.steps:,} entries, {one.units:,} units, {one.points:,} points, "
                f"{yuan} yuan",
            )

    def _completeness(self) -> Iterator[str]:
        differing = [one for one in self.replay.days if not one.agrees]
        for one in self.replay.closings:
            mine = sum(1 for day in differing if day.source == one.source)
            yield self.say(
                f"  {one.source}：已报日清单 {one.closed:,} 日，有入账而未报 {len(one.open):,} 日，不一致 {mine:,} 项",
                f"  {one.source}: {one.closed:,} days closed, {len(one.open):,} with credits and not closed, "
                f"{mine:,} rows that differ",
            )

    def _rules(self) -> Iterator[str]:
        for one in self.replay.rules:
            yield self.say(
                f"  {one.id} {one.version}（{one.status}）：{one.credits:,} 笔入账，{one.digest}",
                f"  {one.id} {one.version} ({one.status}): {one.credits:,} credits, {one.digest}",
            )

    def _samples(self) -> Iterator[str]:
        for one in self.replay.samples:
            known: Iterable[str | None] = (one.kind, one.day, one.source, one.event)
            yield f"  {one.number:>3}  {self.say('条目', 'entry')} {one.entry}: {' '.join(filter(None, known))}"
