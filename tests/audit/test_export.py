"""The auditor's bundle: everything that its layout names, the same from beside the database and over HTTP, continued
after any interruption, and refused where it is another log's."""

import asyncio
import inspect
import json
import re
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ledger.bundle import canonical, read_bundle
from ledger.checkpoint import parse_checkpoint
from ledger.leaf_reading import read_leaf
from ledger.leaves import evidence_commitment, settlement_commitment
from ledger.notes import parse_note, parse_verifier, verify_note
from ledger.tiles import Tile, decode_bundle, encode_bundle, new_bundles, tiles_of
from ledger.verify.run import verify
from service.audit.scanning import Named
from service.audit.source import RANGE, ExportStopped, Source, parse_mark, parse_range, range_path
from service.audit.writing import export_bundle
from tests.audit.audited import EXPORTED, World, contents, export, filled, remote
from tests.test_docs import example_leaves

pytestmark = pytest.mark.anyio

DOCS = Path(__file__).resolve().parents[2] / "docs"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def entries_of(directory: Path, size: int) -> list[dict[str, Any]]:
    """The leaves of a bundle's log."""
    log = directory / "log"
    return [
        read_leaf(entry)
        for tile in new_bundles(0, size)
        for entry in decode_bundle((log / tile.path).read_bytes(), tile.width)
    ]


async def test_a_bundle_holds_everything_that_its_layout_names(world: World, tmp_path: Path) -> None:
    await filled(world)
    directory = tmp_path / "bundle"
    done = await export(world, directory)
    bundle = read_bundle(directory)
    note = parse_note((directory / "log/checkpoint").read_bytes())
    key = parse_verifier((directory / "log.vkey").read_text().removesuffix("\n"))
    checkpoint = parse_checkpoint(verify_note(note, [key]).text)
    said = (bundle.programme, bundle.origin, bundle.epoch, bundle.size, bundle.root, bundle.created_at)
    assert said == (
        "demo",
        checkpoint.origin,
        1,
        checkpoint.size,
        checkpoint.root.hex(),
        f"{EXPORTED:%Y-%m-%dT%H:%M:%SZ}",
    )
    assert (done.size, done.root, done.before, done.unknown_rules) == (bundle.size, bundle.root, 0, ())
    found = contents(directory)
    assert {path: listed.digest for path, listed in bundle.files.items()} == {
        path: digest for path, digest in found.items() if path != "bundle.json"
    }
    assert done.bytes == sum(listed.length for listed in bundle.files.values())
    tiles = {f"log/{tile.path}" for tile in (*tiles_of(bundle.size), *new_bundles(0, bundle.size))}
    entries = entries_of(directory, bundle.size)
    rules = {entry[name] for entry in entries for name in ("methodology", "points_rule") if entry.get(name)}
    assert len(rules) >= 3
    assert set(bundle.files) == tiles | {f"rules/{digest}.json" for digest in rules} | {
        "log/checkpoint", "log.vkey", "keys.json", "checkpoints.jsonl", "manifests.jsonl", "totals.json",
        "witness.policy", "evidence/000.jsonl", "calls/000.jsonl", "reports/000.jsonl",
        "parquet/entries-000.parquet",
        "parquet/lines-000.parquet", "parquet/claims-000.parquet",
    }  # fmt: skip
    for digest in rules:
        assert sha256((directory / f"rules/{digest}.json").read_bytes()).hexdigest() == digest
    await _require_beside(world, directory, entries)


async def _require_beside(world: World, directory: Path, entries: list[dict[str, Any]]) -> None:
    """What lies beside the log is what the database holds of exactly these entries."""
    evidence = lines(directory / "evidence/000.jsonl")
    assert [int(line["index"]) for line in evidence] == sorted(int(line["index"]) for line in evidence)
    for line in evidence:
        entry, salt = entries[int(line["index"])], bytes.fromhex(line["salt"])
        if entry["kind"] == "credit":
            assert evidence_commitment(salt, line["document"].encode()) == entry["evidence"]
        else:
            named = entry["facts"] if entry["kind"] == "maturity" else entry["decision"]
            assert settlement_commitment(salt, line["record"].encode()) == named
    kinds = [entries[int(line["index"])]["kind"] for line in evidence]
    (counts,) = await world.fetch(
        "SELECT (SELECT count(*) FROM ledger.transfer WHERE kind = 'credit') AS credits,"
        " (SELECT count(*) FROM service.settlement WHERE outcome = 'matured') AS matured,"
        " (SELECT count(*) FROM service.settlement WHERE outcome = 'withdrawn') AS withdrawn"
    )
    assert (kinds.count("credit"), kinds.count("maturity"), kinds.count("reversal")) == tuple(counts) == (7, 2, 2)
    (manifest,) = lines(directory / "manifests.jsonl")
    told = entries[int(manifest["index"])]
    assert (told["kind"], sha256(canonical(manifest["received"])).hexdigest()) == ("manifest", told["received"])
    assert sha256(manifest["jws"].encode()).hexdigest() == told["digest"]
    keys = json.loads((directory / "keys.json").read_bytes())
    assert keys["log"] == [(directory / "log.vkey").read_text().strip()]
    assert [(one["source"], one["kid"], one["to"]) for one in keys["sources"]] == [(told["source"], "k1", None)]
    assert keys["sources"][0]["jwk"] == manifest["jwk"]
    signed = await world.fetch("SELECT epoch, size, note FROM ledger.checkpoint ORDER BY epoch, size")
    assert [(int(one["epoch"]), int(one["size"]), one["note"]) for one in lines(directory / "checkpoints.jsonl")] == [
        tuple(row) for row in signed
    ]
    totals = json.loads((directory / "totals.json").read_bytes())
    published = await world.fetch("SELECT programme, asset, account, amount FROM ledger.system_total WHERE amount <> 0")
    assert totals["folded_to"] == str(len(entries))
    assert {(one["programme"], one["asset"], one["account"], int(one["amount"])) for one in totals["totals"]} == {
        tuple(row) for row in published
    }


async def test_the_tables_are_typed_and_add_up_to_the_journal(world: World, tmp_path: Path) -> None:
    await filled(world)
    await world.fill(2)
    size = await world.publish()
    await export(world, tmp_path / "bundle")
    with duckdb.connect() as tables:
        tables.execute(f"SET file_search_path = '{tmp_path / 'bundle'}'")

        def rows(query: str) -> list[tuple[Any, ...]]:
            return tables.execute(query).fetchall()

        moved = "SELECT asset, from_account, to_account, sum(amount)::bigint FROM {} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        posted = await world.fetch(moved.format("ledger.movement"))
        assert rows(moved.format("'parquet/lines-*.parquet'")) == [tuple(row) for row in posted]
        assert dict(rows("SELECT column_name, column_type FROM (DESCRIBE FROM 'parquet/lines-*.parquet')")) == {
            "index": "BIGINT", "line": "SMALLINT", "asset": "VARCHAR", "amount": "BIGINT", "from_account": "VARCHAR",
            "to_account": "VARCHAR", "class": "VARCHAR", "vintage": "SMALLINT", "expires": "DATE",
        }  # fmt: skip
        types = dict(rows("SELECT column_name, column_type FROM (DESCRIBE FROM 'parquet/entries-*.parquet')"))
        assert (types["day"], types["at"], types["counter"]) == ("DATE", "TIMESTAMP WITH TIME ZONE", "BIGINT")
        transfers = await world.fetch(
            "SELECT transfer_id::text, kind, effective_on, counter FROM ledger.transfer ORDER BY transfer_id"
        )
        found = rows(
            "SELECT transfer, kind, day, counter FROM 'parquet/entries-*.parquet' WHERE transfer IS NOT NULL ORDER BY 1"
        )
        assert found == [tuple(row) for row in transfers]
        claimed = await world.fetch("SELECT encode(key, 'hex') FROM service.event_key ORDER BY 1")
        tags = {row[0] for row in rows("SELECT tag FROM 'parquet/claims-*.parquet'")}
        assert tags >= {row[0] for row in claimed}
        assert rows("SELECT count(*), count(kind) FROM 'parquet/entries-*.parquet'") == [(size, size - 2)]
        notices = "SELECT kind FROM 'parquet/entries-*.parquet' WHERE notice IS NOT NULL ORDER BY index"
        assert {kind for (kind,) in rows(notices)} == {"epoch", "key", "manifest"}


async def test_over_http_it_is_the_same_to_the_byte(world: World, tmp_path: Path) -> None:
    await filled(world)
    beside = await export(world, tmp_path / "beside")
    async with remote(world) as source:
        over = await export_bundle(source, tmp_path / "over", EXPORTED)
    assert contents(tmp_path / "over") == contents(tmp_path / "beside")
    assert over == beside
    await world.post()
    await world.publish()
    async with remote(world) as source:  # begun beside the database, continued over HTTP
        await export_bundle(source, tmp_path / "beside", EXPORTED)
    await export(world, tmp_path / "fresh")
    assert contents(tmp_path / "beside") == contents(tmp_path / "fresh")


async def test_a_bundle_is_clean_to_the_verification(world: World, tmp_path: Path) -> None:
    await filled(world)
    await export(world, tmp_path / "bundle")
    report = verify(tmp_path / "bundle")
    assert report.clean, report.findings.in_order()
    await world.post()
    await world.publish()
    await export(world, tmp_path / "bundle")
    report = verify(tmp_path / "bundle")  # against the checkpoint of the first one, too
    assert report.clean, report.findings.in_order()


async def test_what_is_there_is_kept_and_the_rest_is_written_anew(world: World, tmp_path: Path) -> None:
    """Over the end of a range, and back to what a fresh export gives."""
    await world.post()
    await world.fill(300)
    await world.publish()
    await export(world, tmp_path / "bundle")
    await world.fill(RANGE)
    await world.post()
    size = await world.publish()
    done = await export(world, tmp_path / "bundle")
    assert (done.size, done.before < RANGE < size) == (size, True)
    await export(world, tmp_path / "fresh")
    assert contents(tmp_path / "bundle") == contents(tmp_path / "fresh")
    assert {path for path in contents(tmp_path / "bundle") if path.startswith(("evidence/", "parquet/entries"))} == {
        "evidence/000.jsonl", "evidence/001.jsonl", "parquet/entries-000.parquet", "parquet/entries-001.parquet",
    }  # fmt: skip
    # a full range stays as it was taken, the last one is taken anew: what was erased since is absent there
    assert len(lines(tmp_path / "bundle/evidence/001.jsonl")) == 3
    await world.change("DELETE FROM service.evidence")
    again = await export(world, tmp_path / "bundle", parquet=False)
    assert (again.size, again.written) == (size, 9 + len(_partial(tmp_path / "bundle")))
    assert not lines(tmp_path / "bundle/evidence/001.jsonl")
    assert len(lines(tmp_path / "bundle/evidence/000.jsonl")) == 3
    assert not (tmp_path / "bundle/parquet").exists()


def _partial(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*.p/*") if path.is_file()]


class Gone(Exception):
    """Here an export is killed."""


@dataclass
class Killed:
    """A platform that is gone after so many answers."""

    source: Source
    left: int

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.source, name)

        async def answer(*asked: Any) -> Any:
            self._count()
            return await method(*asked)

        async def stream(*asked: Any) -> AsyncIterator[bytes]:
            self._count()
            async for piece in method(*asked):
                yield piece

        return answer if inspect.iscoroutinefunction(method) else stream

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Gone


async def test_a_killed_export_goes_on_wherever_it_was_killed(world: World, tmp_path: Path) -> None:
    await filled(world)
    await export(world, tmp_path / "first")
    await world.post()
    await world.fill(300)
    await world.publish()
    await export(world, tmp_path / "fresh")
    fresh = contents(tmp_path / "fresh")
    kills = 0
    for calls in range(100):
        directory = tmp_path / f"killed {calls}"
        if calls % 2:
            shutil.copytree(tmp_path / "first", directory)  # an earlier bundle is continued
        async with world.stored() as source:
            try:
                await export_bundle(Killed(source, calls), directory, EXPORTED, parquet=calls < 4)
                break
            except Gone:
                kills += 1
        changed = directory.exists() and contents(directory) != contents(tmp_path / "first")
        assert not (changed and (directory / "bundle.json").exists())
        await export(world, directory)
        assert contents(directory) == fresh
    assert kills > 12


async def test_what_an_unfinished_export_left_damaged_is_written_again(world: World, tmp_path: Path) -> None:
    await world.fill(600)
    await world.publish()
    directory = tmp_path / "bundle"
    async with world.stored() as source:
        with pytest.raises(Gone):
            await export_bundle(Killed(source, 12), directory, EXPORTED)
    (directory / "log" / Tile(0, 0).path).write_bytes(b"torn")
    (directory / "log" / Tile(None, 1).path).write_bytes(b"")
    await export(world, directory)
    await export(world, tmp_path / "fresh")
    assert contents(directory) == contents(tmp_path / "fresh")


async def test_another_log_and_other_bytes_are_refused_and_nothing_is_changed(world: World, tmp_path: Path) -> None:
    await filled(world)
    directory = tmp_path / "bundle"
    await export(world, directory)
    whole = contents(directory)

    async def refused(because: str) -> None:
        before = contents(directory)
        with pytest.raises(ExportStopped, match=because) as stopped:
            await export(world, directory)
        assert str(directory) in stopped.value.zh
        assert contents(directory) == before

    for path in ("totals.json", "evidence/000.jsonl", "log/tile/entries/000.p/22", "log/checkpoint"):
        file = directory / path if (directory / path).exists() else _partial(directory)[0]
        kept = file.read_bytes()
        file.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        await refused("other bytes than when it was exported")
        file.write_bytes(kept)
    (directory / "evidence/000.jsonl").unlink()  # as the message says: what is missing is written anew
    await export(world, directory)
    assert contents(directory) == whole
    manifest = json.loads((directory / "bundle.json").read_bytes())
    for name, value, because in (
        ("programme", "other", "it holds the log log.example.org/log of other"),
        ("origin", "other.example.org/log", "it holds the log other.example.org/log"),
        ("epoch", "7", "it holds the log"),
        ("size", "4000", "its log has 4000 entries"),
        ("root", "0" * 64, "its history was rewritten"),
    ):
        (directory / "bundle.json").write_bytes(canonical(manifest | {name: value}))
        await refused(because)
    (directory / "bundle.json").write_bytes(b"{}")
    await refused("no bundle that could be continued")
    (directory / "bundle.json").unlink()
    await refused("the folder is not empty")


async def test_two_exports_at_once_do_not_meet(world: World, tmp_path: Path) -> None:
    async with world.stored() as first, world.stored() as second:
        done = await asyncio.gather(
            export_bundle(first, tmp_path / "bundle", EXPORTED),
            export_bundle(second, tmp_path / "bundle", EXPORTED),
            return_exceptions=True,
        )
    (stopped,) = [one for one in done if isinstance(one, BaseException)]
    assert isinstance(stopped, ExportStopped)
    assert "another export is writing" in stopped.en


async def test_a_further_epoch_moves_the_former_log_aside(world: World, tmp_path: Path) -> None:
    await filled(world)
    directory = tmp_path / "bundle"
    first = await export(world, directory)
    await world.post()
    await world.publish()
    await world.open_further()
    size = await world.publish()
    done = await export(world, directory)
    assert (done.epoch, done.origin, done.size) == (2, "log.example.org/log/epoch-2", size)
    await export(world, tmp_path / "fresh")
    assert contents(directory) == contents(tmp_path / "fresh")
    former = parse_note((directory / "epochs/1/log/checkpoint").read_bytes())
    key = parse_verifier((directory / "epochs/1/log.vkey").read_text().strip())
    assert parse_checkpoint(verify_note(former, [key]).text).size > first.size
    marks = [(int(one["epoch"]), int(one["size"])) for one in lines(directory / "checkpoints.jsonl")]
    assert marks == sorted(marks)
    assert {epoch for epoch, _ in marks} == {1, 2}
    async with remote(world) as source:
        await export_bundle(source, tmp_path / "over", EXPORTED)
    assert contents(tmp_path / "over") == contents(directory)


async def test_totals_are_of_the_checkpoint_however_far_they_are_folded(world: World, tmp_path: Path) -> None:
    await filled(world)
    await export(world, tmp_path / "before")
    checkpoint = (world.log.files_of(1).directory / "checkpoint").read_bytes()
    await world.post(rides=5)
    await world.publish()  # folded, and the checkpoint is put back: the totals are ahead of it
    (world.log.files_of(1).directory / "checkpoint").write_bytes(checkpoint)
    await export(world, tmp_path / "ahead")
    assert (tmp_path / "ahead/totals.json").read_bytes() == (tmp_path / "before/totals.json").read_bytes()
    await world.change("UPDATE ledger.fold_head SET folded_to = 0", "DELETE FROM ledger.system_total")
    await export(world, tmp_path / "behind")
    assert contents(tmp_path / "behind") == contents(tmp_path / "ahead")


async def test_a_rule_that_the_platform_does_not_know_is_said(world: World, tmp_path: Path) -> None:
    await filled(world)
    rows = await world.fetch("SELECT encode(digest, 'hex') FROM service.rule_document WHERE kind = 'points'")
    await world.change("DELETE FROM service.rule_document WHERE kind = 'points'")
    done = await export(world, tmp_path / "bundle")
    assert set(done.unknown_rules) <= {row[0] for row in rows}
    assert done.unknown_rules
    assert not any((tmp_path / "bundle" / "rules" / f"{digest}.json").exists() for digest in done.unknown_rules)


async def test_what_the_documents_ask_of_the_tables_is_answered(world: World, tmp_path: Path) -> None:
    """Each command `duckdb -c "…"` of docs/audit.md, within a bundle."""
    await filled(world)
    await export(world, tmp_path / "bundle")
    commands = re.findall(r'^duckdb -c "(.*?)"$', (DOCS / "audit.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    with duckdb.connect() as tables:
        tables.execute(f"SET file_search_path = '{tmp_path / 'bundle'}'")
        by_source, accounts, redeemed, gaps, repeated, largest, issued = (
            tables.execute(each).fetchall() for each in commands
        )
    assert (redeemed, gaps, repeated) == ([], [], [])
    assert sum(credits for _, _, credits, _ in by_source) == 7 == len(largest)
    totals = json.loads((tmp_path / "bundle/totals.json").read_bytes())["totals"]
    system = {(asset, account): amount for asset, account, amount in accounts if account in ("issuance", "partner")}
    assert system == {(one["asset"], one["account"]): int(one["amount"]) for one in totals}
    grams = {(kind, vintage): given - back for kind, vintage, given, back in issued}
    assert sum(grams.values()) == -system["co2e_mg", "issuance"]


@pytest.mark.parametrize(("number", "path"), [(0, "000"), (7, "007"), (999, "999"), (1_234_067, "x001/x234/067")])
def test_a_range_has_one_path(number: int, path: str) -> None:
    assert (range_path(number), parse_range(path)) == (path, number)
    assert parse_mark("12:0") == (12, 0)


def test_what_entries_name_is_read_off_their_bytes() -> None:
    leaves = example_leaves()
    leaves["none"] = b'{"kind":"rule"}'
    named = Named()
    named.scan(512, encode_bundle(list(leaves.values())), len(leaves))
    fields = {kind: read_leaf(leaf) for kind, leaf in leaves.items() if kind != "none"}
    credit, rule = fields["credit"], fields["rule"]
    assert named.rules == {credit["methodology"], credit["points_rule"], rule["digest"]}
    assert named.manifests == [512 + list(leaves).index("manifest")]
    assert [(one["approver"], one["role"], one["kid"], one["public_key"]) for one in named.approvers_listed()] == [
        (one["approver"], one["role"], one["key"], one["public_key"]) for one in rule["approvals"]
    ]
