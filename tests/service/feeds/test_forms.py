"""The same rows in other forms: delimiters, decimal commas, encodings, Parquet; what a feed says of its files."""

import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from service.feeds import Feed, FeedDocumentError, FeedFileError, count_rows, load_feed, read_rows, to_event
from tests.service.feeds.making import feed_like, read, written

CHARGING = load_feed("trondheim-charging")
HEADING = "session_ID;Garage_ID;User_ID;Start_plugin;End_plugout;El_kWh"
SESSION = "7;G1;G1-2;24.12.2026 18:05;25.12.2026 07:30;12,35"
EVENT = {
    "specversion": "1.0",
    "id": "7",
    "source": "urn:tanpuhui:source:trondheim-charging",
    "type": "org.tanpuhui.activity.v1",
    "subject": "G1-2",
    "data": {
        "scenario": "demo-ev-charging",
        "started_at": "2026-12-24T17:05:00Z",
        "ended_at": "2026-12-25T06:30:00Z",
        "inputs": {"charged_kwh": "12.35", "consumption_kwh_per_km": "0.2"},
        "basis": {"charged_kwh": "metered", "consumption_kwh_per_km": "declared"},
        "references": {"operator": "trondheim-charging", "order": "7"},
    },
}


def only_event(feed: Feed, path: Path) -> dict[str, object]:
    (row,), bad, _ = read(feed, [path])
    assert not bad
    return to_event(feed, row)


def test_a_charging_session(tmp_path: Path) -> None:
    assert only_event(CHARGING, written(tmp_path / "c.csv.gz", HEADING, SESSION, packed=True)) == EVENT
    lines = [
        SESSION.replace("25.12.2026 07:30", "NA"),
        SESSION.replace("12,35", "12.35"),
        SESSION.replace("24.", "2026-24-"),
    ]
    _, bad, _ = read(CHARGING, [written(tmp_path / "c.csv", HEADING, *lines)])
    assert [one.reason for one in bad] == ["malformed-row"] * 3
    assert "came 'NA'" in bad[0].detail.en
    assert "a number such as 2,35" in bad[1].detail.en
    assert "such as 19.08.2016 21:41" in bad[2].detail.en


@pytest.mark.parametrize(
    ("form", "lines", "encoding"),
    [
        ({"delimiter": "\t", "decimal": ","}, [HEADING.replace(";", "\t"), SESSION.replace(";", "\t")], "utf-8"),
        ({"delimiter": "|"}, [HEADING.replace(";", "|"), SESSION.replace(";", "|").replace("12,35", "12.35")], "utf-8"),
        ({"delimiter": ";", "decimal": ",", "quote": "'"}, [HEADING, SESSION.replace("G1-2", "'G1-2'")], "utf-8"),
        ({"delimiter": ";", "decimal": ",", "pass_over_lines": 2}, ["充电,记录", "", HEADING, SESSION], "utf-8"),
        ({"delimiter": ";", "decimal": ",", "heading": HEADING.split(";")}, [SESSION], "utf-8"),
        (
            {"delimiter": ";", "decimal": ",", "encoding": "gb18030"},
            [f"备注;{HEADING}", f"夜间充电;{SESSION}"],
            "gb18030",
        ),
    ],
)
def test_other_forms_of_csv(tmp_path: Path, form: dict[str, object], lines: list[str], encoding: str) -> None:
    feed = feed_like("trondheim-charging", csv=form)
    for packed in (False, True):
        path = written(tmp_path / "c.csv", *lines, packed=packed, encoding=encoding)
        assert only_event(feed, path) == EVENT


def parquet(path: Path, **columns: object) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=2)
    return path


PARQUET = feed_like(
    "trondheim-charging", ('format: "%d.%m.%Y %H:%M"', ""), ("format: csv", "format: parquet"), ("csv:\n", "# csv:\n"),
    ('  delimiter: ";"\n', ""), ('  decimal: ","\n', ""),
)  # fmt: skip
START = datetime(2026, 12, 24, 17, 5, tzinfo=UTC)
END = START + timedelta(hours=13, minutes=25)


@pytest.mark.parametrize(
    ("starts", "ends", "energy"),
    [
        (pyarrow.array([START]), pyarrow.array([END]), pyarrow.array([12.35])),
        (
            pyarrow.array([datetime(2026, 12, 24, 18, 5)], pyarrow.timestamp("ns")),  # noqa: DTZ001 - local time
            pyarrow.array([END], pyarrow.timestamp("ms", "Europe/Oslo")),
            pyarrow.array([Decimal("12.350")], pyarrow.decimal128(8, 3)),
        ),
        (pyarrow.array(["2026-12-24 18:05"]), pyarrow.array(["2026-12-25T06:30:00Z"]), pyarrow.array(["12.35"])),
        (pyarrow.array([START]).dictionary_encode(), pyarrow.array([END]), pyarrow.array(["12.35"])),
    ],
)
def test_parquet(tmp_path: Path, starts: object, ends: object, energy: object) -> None:
    path = parquet(
        tmp_path / "c.parquet", User_ID=["G1-2"], session_ID=[7], Start_plugin=starts, End_plugout=ends, El_kWh=energy,
        unused=[[1, 2]],
    )  # fmt: skip
    event = only_event(PARQUET, path)
    assert event["data"]["inputs"].pop("charged_kwh").rstrip("0") == "12.35"  # type: ignore[index] # nested objects
    assert {**event, "data": None} == {**EVENT, "data": None}


def test_rows_of_many_row_groups_and_empty_cells(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "c.parquet",
        session_ID=list(range(1, 8)),
        User_ID=[*["u"] * 6, None],
        Start_plugin=[START] * 7,
        End_plugout=[*[END] * 5, None, END],
        El_kWh=[1.5] * 4 + [float("nan")] + [2.5] * 2,
    )
    good, bad, _ = read(PARQUET, [path])
    assert [(row.number, row.line) for row in good] == [(n, n) for n in (1, 2, 3, 4)]
    assert [(one.line, one.detail.en.partition(":")[0]) for one in bad] == [
        (5, "El_kWh"),
        (6, "End_plugout"),
        (7, "User_ID"),
    ]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"session_ID": [1]}, "User_ID, Start_plugin, End_plugout, El_kWh missing"),
        (
            {"session_ID": [1], "User_ID": [["u"]], "Start_plugin": [START], "End_plugout": [END], "El_kWh": [1]},
            "it holds list",
        ),
        (
            {"session_ID": [b"1"], "User_ID": ["u"], "Start_plugin": [START], "End_plugout": [END], "El_kWh": [1]},
            "it holds binary",
        ),
    ],
)
def test_parquet_with_other_columns_is_refused(tmp_path: Path, columns: dict[str, object], said: str) -> None:
    with pytest.raises(FeedFileError, match=said):
        count_rows(PARQUET, [parquet(tmp_path / "c.parquet", **columns)])


def test_what_is_no_parquet_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "c.parquet", HEADING, SESSION)
    for wrong in (path, tmp_path, tmp_path / "absent"):
        with pytest.raises(FeedFileError, match="expected a readable Parquet file"):
            count_rows(PARQUET, [wrong])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(FeedFileError, match=r"tanpuhui\[parquet\]"):
        count_rows(PARQUET, [path])


def test_rows_that_are_passed_over(tmp_path: Path) -> None:
    rules = [
        {"id": "no-end", "column": "End_plugout", "one_of": ["NA", ""]},
        {"id": "other-garage", "column": "Garage_ID", "none_of": ["G1"]},
        {"id": "tests", "column": "User_ID", "contains": "test"},
    ]
    feed = feed_like("trondheim-charging", pass_over=rules)
    lines = [SESSION, SESSION.replace("25.12.2026 07:30", " NA "), SESSION.replace("G1;", "G2;"), "7;G1;test;a;b;c"]
    good, bad, summary = read(feed, [written(tmp_path / "c.csv", HEADING, *lines)])
    assert (len(good), len(bad)) == (1, 0)
    assert summary.passed_over == {"no-end": 1, "other-garage": 1, "tests": 1}


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("trondheim-charging", 'decimal: ","', 'decimal: ";"', "csv.decimal: expected"),
        ("trondheim-charging", 'delimiter: ";"', 'delimiter: ","', "a delimiter other than the decimal sign"),
        ("trondheim-charging", 'delimiter: ";"', "delimiter: '\"'", "csv.delimiter: expected"),
        ("trondheim-charging", "format: csv", "format: parquet", "no section csv"),
        ("trondheim-charging", "unit: kWh/km", "unit: kWh/mi", "consumption_kwh_per_km in one of the units kWh/km"),
        ("trondheim-charging", 'constant: "0.2"', 'constant: "-1"', "constant: expected"),
        ("trondheim-charging", "\nid: ", "\nkind: flights\nid: ", "line 3: kind: expected: one of trips, taps"),
        ("shenzhen-metro-taps", "  exit: [地铁出站]\n", "", "entry and exit together"),
        ("shenzhen-metro-taps", "exit: [地铁出站]", "exit: [地铁入站]", "no word twice"),
        ("shenzhen-metro-taps", "pairing:\n  longest_min: 240", "# pairing:", "a section pairing"),
        ("shenzhen-metro-taps", "one_of: [巴士]", "one_of: [巴士], contains: 士", "exactly one of"),
        ("shanghai-metro-trips", "    links: neighbour\n", "", "links in the stations metro"),
        ("shanghai-metro-trips", "stations: metro,", "stations: bus,", "an entry bus in stations"),
        ("shanghai-metro-trips", "file: data/", "file: ../", "a file in the same folder"),
        ("shanghai-metro-trips", "beside: feed", "folder: /etc", "a table without a folder"),
        ("fontana-pv", "  capacity: {file", "  other: {file", "an entry capacity in tables"),
        ("fontana-pv", "Wh/kW, times: capacity_kw", "Wh/kW", "times with a unit for each kW"),
        ("fontana-pv", "times: capacity_kw", "times: other_kw", "an input other_kw"),
        ("fontana-pv", "  first: 2016-07-31T23:00:00 ", "  # first: ", "a column of times, or `first` and step_s"),
        ("konstanz-pv", "unit: kWh, register: true", "unit: kWh", "time.step_s, the length of an interval"),
        ("konstanz-pv", "unit: kWh, register: true", "unit: kW, register: true", "a register in kWh"),
        ("london-households", "of: use_kwh", "of: other_kwh", "readings other_kwh, which the baseline is of"),
        ("london-households", "  use_kwh:", "  use:", "names of readings that end in _kwh"),
        ("london-households", "edge_gap_h: 1", "edge_gap_h: -1", "period.edge_gap_h: expected"),
        (
            "mobike-shanghai",
            "start_location_y, datum: unstated",
            "start_location_y, datum: gcj02",
            "two positions of the same datum",
        ),
    ],
)
def test_a_feed_that_contradicts_itself_is_refused(name: str, old: str, new: str, said: str) -> None:
    with pytest.raises(FeedDocumentError) as refused:
        feed_like(name, (old, new))
    assert said in refused.value.text.en


def test_several_files_are_read_as_one(tmp_path: Path) -> None:
    paths = [written(tmp_path / f"{n}.csv", HEADING, SESSION.replace("7;", f"{n};"), "") for n in (1, 2)]
    good, _, _ = read(CHARGING, paths)
    assert [(row.number, row.line, row.file, row.event_id) for row in good] == [
        (1, 2, "1.csv", "1"),
        (2, 2, "2.csv", "2"),
    ]
    assert good[0].day == date(2026, 12, 25), "the day of Asia/Shanghai"
    with pytest.raises(FeedFileError, match="reading it failed"):
        list(read_rows(CHARGING, [*paths, tmp_path / "3.csv"]))
