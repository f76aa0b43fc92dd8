"""The report: the same in text, JSON and one page, in both languages; nothing out of a bundle gets into the page's own
words, and the command ends with the status it promises."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace as changed
from html.parser import HTMLParser
from pathlib import Path

import pytest

from service.audit.__main__ import main
from service.audit.charts import SERIES, Series, columns, grouped, largest
from service.audit.findings import CODES, LEFT
from service.audit.page import as_html
from service.audit.replay import Replay, replay
from service.audit.report import as_json, as_text, document, grams
from service.audit.samples import SAMPLES, draw
from tests.audit.history import Audited

pytestmark = pytest.mark.anyio

FIELDS = [
    "v", "bundle", "clean", "checked", "findings", "counts", "not_checked", "totals", "completeness", "rules",
    "redemptions", "samples", "limits", "remembered",
]  # fmt: skip
HOSTILE = '"><script src=//evil.example>&'


class _Page(HTMLParser):
    """What a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def replayed(audited: Audited) -> Replay:
    return replay(audited.directory)


def _read(page: str) -> _Page:
    read = _Page()
    read.feed(page)
    read.close()
    return read


async def test_the_json_is_stable_and_exact(replayed: Replay) -> None:
    told = json.loads(as_json(replayed))
    assert list(told) == FIELDS
    assert told["v"] == "1"
    assert told["clean"] is True
    assert (told["findings"], told["counts"]) == ([], {"verify": {}, "replay": {}})
    assert told["checked"]["replay"]["evidence"] == told["checked"]["verify"]["credit"] == 15
    assert sum(int(one["reduction_mg"]) for one in told["totals"]) == 300_000
    assert sum(int(one["points"]) for one in told["totals"]) == 217
    assert {one["scenario"]: one["agrees"] for one in told["completeness"]["days"]} == {
        f"counting-{name}": True for name in ("boarding", "bonus", "home", "pv", "ride")
    }
    assert all(one["days_closed"] == 1 and not one["days_open"] for one in told["completeness"]["sources"])
    assert len({one["index"] for one in told["samples"]}) == len(told["samples"]) > 0


async def test_the_text_says_the_same_in_both_languages(replayed: Replay) -> None:
    chinese, english = list(as_text(replayed, ["zh"])), list(as_text(replayed, ["en"]))
    assert "结论：未发现问题" in chinese
    assert "verdict: nothing was found" in english
    assert len(chinese) == len(english)
    assert list(as_text(replayed)) == [*chinese, "", *english]


async def test_the_page_loads_and_runs_nothing(replayed: Replay) -> None:
    page = as_html(replayed)
    read = _read(page)
    assert {tag for tag, _ in read.tags} & {"script", "link", "img", "iframe", "object", "a", "form"} == set()
    assert all(not name.startswith("on") and name not in ("src", "href") for _, attrs in read.tags for name in attrs)
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")
    assert "url(" not in page
    assert sum(tag == "svg" for tag, _ in read.tags) == 3
    assert (
        "meta",
        {"http-equiv": "Content-Security-Policy", "content": "default-src 'none'; style-src 'unsafe-inline'"},
    ) in read.tags
    languages = [attrs.get("lang") for tag, attrs in read.tags if tag == "span" and "lang" in attrs]
    assert languages.count("zh-CN") == languages.count("en") > 20
    assert "prefers-color-scheme: dark" in page


async def test_a_name_out_of_a_bundle_stays_a_name(replayed: Replay) -> None:
    hostile = changed(
        replayed,
        totals=[one._replace(scenario=HOSTILE, source=HOSTILE, month="2026-03") for one in replayed.totals],
        samples=[changed(one, event=HOSTILE) for one in replayed.samples],
        closings=[changed(one, source=HOSTILE) for one in replayed.closings],
    )
    hostile.findings = type(replayed.findings)()
    hostile.findings.add("reduction", HOSTILE, HOSTILE, 3, HOSTILE)
    read = _read(as_html(hostile))
    assert "script" not in {tag for tag, _ in read.tags}
    assert HOSTILE in read.text


async def test_a_terminal_is_given_nothing_it_obeys(replayed: Replay) -> None:
    hostile = changed(replayed, samples=[changed(one, event="\x1b[2J\r") for one in replayed.samples])
    assert all(line.isprintable() for line in as_text(hostile))


async def test_a_finding_is_in_every_form(replayed: Replay) -> None:
    faulty = changed(replayed)
    faulty.findings = type(replayed.findings)()
    for index in range(150):
        faulty.findings.add("reduction", 20_000, 20_001, index)
    told = document(faulty)
    assert not told["clean"]
    assert told["counts"]["replay"] == {"reduction": 150}
    assert len(told["findings"]) == 100
    assert told["findings"][0] == {
        "part": "replay", "code": "reduction", "index": 0, "where": "", "expected": "20000", "found": "20001",
    }  # fmt: skip
    lines = "\n".join(as_text(faulty))
    assert "发现 150 处问题，涉及 1 类" in lines
    assert "entry 3 expected 20000; found 20001" in lines
    assert "… 140 more" in lines
    assert "20001" in _read(as_html(faulty)).text


async def test_the_command_ends_with_the_status_it_promises(
    audited: Audited, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    assert main(["replay", str(audited.directory), "--json", "--html", str(page)]) == 0
    assert json.loads(capsys.readouterr().out)["clean"] is True
    assert page.read_text("utf-8").startswith("<!doctype html>")
    broken = tmp_path / "broken"
    shutil.copytree(audited.directory, broken)
    (broken / "evidence" / "000.jsonl").write_bytes(b"")
    assert main(["replay", str(broken)]) == 1
    assert "file-differs" in capsys.readouterr().out
    assert main(["replay", str(tmp_path / "nothing")]) == 2
    assert "bundle.json" in capsys.readouterr().err


async def test_processes_change_nothing(audited: Audited, replayed: Replay) -> None:
    several = replay(audited.directory, processes=2)
    assert document(several) == document(replayed)


def test_it_loads_no_database_and_no_web() -> None:
    """A contract of imports does not see what a package loads by itself."""
    forbidden = {"asyncpg", "sqlalchemy", "sqlmodel", "psycopg", "redis", "fastapi", "starlette", "httpx", "uvicorn"}
    program = "import service.audit.__main__, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert forbidden & set(answer.stdout.split()) == set()


def test_samples_are_drawn_from_the_root_alone() -> None:
    root = "ab" * 32
    drawn = draw(root, 10_000)
    assert len(drawn) == SAMPLES
    assert drawn == draw(root, 10_000)
    assert drawn.keys() != draw("ac" * 32, 10_000).keys()
    assert all(0 <= entry < 10_000 for entry in drawn)
    assert draw(root, 0) == draw("no root", 10_000) == {}
    assert draw(root, 1) == {0: 0}


def test_charts_hold_what_they_are_given() -> None:
    assert largest({"a": 1, "b": 3, "c": 3}) == ["b", "c", "a"]
    assert len(largest({str(number): number for number in range(20)})) == SERIES
    months = [f"{year}-{month:02}" for year in range(2020, 2025) for month in range(1, 13)]
    assert set(grouped(months).values()) == {"2020", "2021", "2022", "2023", "2024"}
    assert list(grouped(["2020-11", "2021-02"]).items()) == [
        (month, month) for month in ("2020-11", "2020-12", "2021-01", "2021-02")
    ]
    assert grouped([]) == {}
    drawn = columns(["a", "b"], [Series(0, "x", [3, 0]), Series(1, "y", [1, 0])], "g")
    assert drawn.count("<rect") == 2
    assert columns([], [], "g").startswith("<svg")
    assert columns(["a"], [Series(0, "x", [0])], "g").count("<rect") == 0


@pytest.mark.parametrize(
    ("mg", "shown"), [(0, "0.000 g"), (1, "0.001 g"), (1_234_567_890, "1,234,567.890 g"), (-5, "-0.005 g")]
)
def test_grams_are_exact(mg: int, shown: str) -> None:
    assert grams(mg) == shown


def test_every_code_is_described() -> None:
    described = (Path(__file__).parents[2] / "docs" / "audit.md").read_text("utf-8")
    for code, (english, chinese) in (*CODES.items(), *LEFT.items()):
        assert f"| `{code}` | {english} · {chinese} |\n" in described, code
