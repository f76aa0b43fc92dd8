"""What sources signed, in a bundle: exported, verified against the log's keys, and held against the evidence."""

import base64
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.body import parse_json
from api.signatures import public_jwk
from api.v1.activities import ActivityEvent, _reported
from service.activities.intake import evidence_document
from service.audit.replay import Replay, replay
from service.audit.reported import BATCH, STRUCTURED, events_of, evidence_of
from service.audit.writing import export_bundle
from service.clock import SHANGHAI
from service.reports.erasing import erase_bodies_of
from tests.api.bankers import new_key
from tests.api.reporters import Reporter, open_reporter, put_source_key
from tests.api.test_signed_reports import later, revoke
from tests.audit.audited import World, contents, export, remote
from tests.log.bundles import relist
from tests.running import Person, credit_code, ride

pytestmark = pytest.mark.anyio

REPORTS = "reports/000.jsonl"


async def signed_history(world: World) -> tuple[Reporter, list[Person], str]:
    """A batch and two single events, all signed; and an event that was not. The moment before the
    last of them."""
    reporter = await open_reporter(world.api, signing="optional")
    people = [await world.api.person(reporter.source) for _ in range(3)]
    batch = [ride(reporter.source, each.subject, km="2.50") for each in people]
    refused = ride(reporter.source, people[0].subject, km="0.001", **later(1))
    assert (await reporter.call([*batch, refused, batch[0], {"id": "none"}])).status_code == 200
    assert (await reporter.send(ride(reporter.source, people[0].subject, **later(2)))).status_code == 201
    event = ride(reporter.source, people[0].subject, km="3.1", **later(3))
    assert (await reporter.call(event)).status_code == 201
    since = (world.api.platform.fresh.clock() + timedelta(seconds=1)).replace(microsecond=0)
    while world.api.platform.fresh.clock() < since:
        pass
    assert (await reporter.call(ride(reporter.source, people[1].subject, **later(4)))).status_code == 201
    return reporter, people, since.isoformat()


def lines_of(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / REPORTS).read_bytes().splitlines()]


def codes(found: Replay) -> set[str]:
    assert found.verified.clean, found.verified.findings.counts
    return set(found.findings.counts)


async def test_what_was_signed_is_exported_and_replayed(world: World, tmp_path: Path) -> None:
    reporter, people, since = await signed_history(world)
    await world.publish()
    await export(world, tmp_path / "bundle", parquet=False)
    lines = lines_of(tmp_path / "bundle")
    assert [len(line["entries"]) for line in lines] == [3, 1, 1]
    assert all(base64.b64decode(line["body"]) for line in lines)
    found = replay(tmp_path / "bundle")
    assert (codes(found), dict(found.open.counts)) == (set(), {"day-not-closed": 1})
    assert found.checked["reports"] == 3
    async with remote(world) as source:
        await export_bundle(source, tmp_path / "fetched", datetime.now(UTC) + timedelta(days=2), parquet=False)
    same = {path: digest for path, digest in contents(tmp_path / "fetched").items() if path != "bundle.json"}
    assert same == {path: digest for path, digest in contents(tmp_path / "bundle").items() if path != "bundle.json"}

    for forge, code in FORGERIES.items():
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "bundle", copy)
        forged = lines_of(copy)
        forge(forged)
        (copy / REPORTS).write_bytes(
            b"".join(orjson.dumps(line, option=orjson.OPT_SORT_KEYS) + b"\n" for line in forged)
        )
        relist(copy)
        assert code in codes(replay(copy)), forge.__name__
        shutil.rmtree(copy)

    # A key that turns out to have been stolen: what it signed since is told until it is taken back.
    async with world.api.platform.pool.acquire() as connection:
        await erase_bodies_of(connection, UUID(people[0].participant_id))
    key = {"uri": reporter.source, "key": public_jwk(reporter.key), "valid_from": "2026-01-01T00:00:00+08:00"}
    ended = await world.api.client.put(
        "/v1/sources/keys", headers=world.api.bearer("operator"), json=key | {"valid_to": since}
    )
    assert ended.status_code == 200, ended.text
    await world.publish()
    await export(world, tmp_path / "ended", parquet=False)
    found = replay(tmp_path / "ended")
    told = {"day-not-closed": 1, "report-erased": 2, "report-compromised": 1}
    assert (codes(found), dict(found.open.counts)) == (set(), told)
    assert [line["body"] is None for line in lines_of(tmp_path / "ended")] == [True, True, False]
    assert (await revoke(reporter, since)).json()["reversed"]["credits"] == 1
    reporter.key = new_key("the-next")
    assert (await put_source_key(world.api, reporter.source, reporter.key)).status_code == 200
    assert (await reporter.call(ride(reporter.source, people[2].subject, **later(5)))).status_code == 201
    await world.publish()
    await export(world, tmp_path / "ended", parquet=False)
    found = replay(tmp_path / "ended")
    assert (codes(found), dict(found.open.counts)) == (set(), {"day-not-closed": 1, "report-erased": 2})


def _drop(lines: list[dict[str, Any]]) -> None:
    del lines[2]


def _other_body(lines: list[dict[str, Any]]) -> None:
    lines[2]["body"] = base64.b64encode(base64.b64decode(lines[2]["body"]).replace(b"2.35", b"9.35")).decode()


def _other_signature(lines: list[dict[str, Any]]) -> None:
    lines[0]["signature"] = lines[1]["signature"]


def _other_call(lines: list[dict[str, Any]]) -> None:
    lines[1]["entries"], lines[2]["entries"] = lines[2]["entries"], lines[1]["entries"]
    lines[1:] = lines[:0:-1]


def _of_the_batch(lines: list[dict[str, Any]]) -> None:
    """As if the batch were behind an event that nobody signed."""
    entries = {int(entry) for line in lines for entry in line["entries"]}
    lines[0]["entries"].append(str(next(n for n in range(max(entries)) if n > min(entries) and n not in entries)))


def _another_key(lines: list[dict[str, Any]]) -> None:
    lines[0]["jwk"] = {name: value for name, value in public_jwk(new_key()).items() if name != "kid"}


def _stray(lines: list[dict[str, Any]]) -> None:
    lines.append(lines[2] | {"entries": ["99999"]})


def _malformed(lines: list[dict[str, Any]]) -> None:
    lines.append({"base": "x"})


FORGERIES: dict[Callable[[list[dict[str, Any]]], None], str] = {
    _drop: "signed-report",
    _other_body: "signed-report",
    _other_signature: "signed-report",
    _other_call: "signed-report",
    _of_the_batch: "signed-report",
    _another_key: "signed-report",
    _stray: "report-extra",
    _malformed: "report-extra",
}


# The auditor's reading of an event is the platform's

_moments = st.integers(0, 3 * 10**14).map(
    lambda microseconds: (datetime(2016, 1, 1, tzinfo=SHANGHAI) + timedelta(microseconds=microseconds)).isoformat()
)
_numbers = st.one_of(
    st.integers(-(10**9), 10**9),
    st.decimals(-(10**6), 10**6, places=4).map(str),
    st.sampled_from(["0", "-0.0", "1e3", "1.50E-2", "100", "2.350", "0.0000001"]),
    st.decimals(0, 10**6, places=3),
)
_words = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
_readings = st.one_of(
    st.just({"kind": "interval", "from": "2026-01-01T00:00:00+08:00", "step_s": 1800, "values": ["0.40", None, 5]}),
    st.just({"kind": "cumulative", "at": [["2026-01-01T00:00:00+08:00", "1.5"], ["2026-02-01T00:00:00Z", "2.50"]]}),
)


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """An event as the API takes it, with whatever may be left out."""
    data: dict[str, Any] = {
        "scenario": "shared-ebike",
        "started_at": draw(_moments),
        "ended_at": draw(_moments),
        "inputs": draw(st.dictionaries(st.sampled_from(["distance_km", "stops"]), _numbers, max_size=2)),
    }
    optional: dict[str, st.SearchStrategy[Any]] = {
        "basis": st.dictionaries(st.just("distance_km"), st.sampled_from(["metered", "track"])),
        "vehicle": st.one_of(st.none(), st.just("沪A 1381")),
        "references": st.fixed_dictionaries(
            {"order": st.sampled_from(["A-1", "订单 7", "x" * 40])},
            optional={
                "site": st.builds(
                    lambda code, spaces: spaces + code.lower(), st.builds(credit_code), st.sampled_from(["", " "])
                )
            },
        ),
        "readings": st.dictionaries(st.just("use_kwh"), _readings),
        "baseline": st.dictionaries(st.just("baseline_kwh"), _readings),
        "replaces": st.one_of(st.none(), _words),
    }
    for name, values in optional.items():
        if draw(st.booleans()):
            data[name] = draw(values)
    named = {"specversion": "1.0", "id": draw(_words), "source": "urn:tests:any", "subject": draw(_words)}
    return {**named, "type": "org.tanpuhui.activity.v1", "data": data}


def as_json(event: dict[str, Any]) -> bytes:
    """The text of an event, with decimals as numbers."""

    class Exact(float):
        def __init__(self, value: Decimal) -> None:
            self.value = value

        def __repr__(self) -> str:
            return str(self.value)

    def exact(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: exact(each) for name, each in value.items()}
        return Exact(value) if isinstance(value, Decimal) else value

    return json.dumps(exact(event), ensure_ascii=False).encode()


@settings(max_examples=80)
@given(events())
def test_the_auditor_reads_an_event_as_the_intake_does(event: dict[str, Any]) -> None:
    body = as_json(event)
    taken = evidence_document(_reported(ActivityEvent.model_validate(parse_json(body))))
    (found,) = events_of(body, STRUCTURED)
    assert evidence_of(found) == taken
    (found,) = events_of(b"[" + body + b"]", BATCH)
    assert evidence_of(found) == taken


def test_signed_events_come_in_two_forms() -> None:
    assert list(events_of(b'[{"a": 1}, 2]', BATCH)) == [{"a": 1}]
    with pytest.raises(ValueError, match="signed events come as"):
        list(events_of(b"{}", "application/json"))
