"""The documents say what there is: every problem, setting, command, metric and methodology is described, examples give
what they show, and links and code locations lead somewhere.

`.venv/bin/python -m tests.test_docs --write` renews the generated parts, which stand between `<!-- begin … -->` and
`<!-- end … -->`.
"""

import doctest
import hashlib
import importlib
import inspect
import json
import pkgutil
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from string import Template
from typing import Any
from uuid import UUID

import httpx
import pytest
import rfc8785
import typer.main
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import REGISTRY

import api.v1
import ledger.check
import service.activities.models
import service.banks.models
import service.clients.models
import service.limits
import service.linking.models
import service.poster
import service.products.tables
import service.proposals
import service.redemption.check
import service.redemption.models
import service.reports.models
import service.retention
import service.rights.models
import service.settlement.models
import service.signals.models
import service.vault.tables
import service.webhooks.models
import service.worker
from api.auth import ROLE_SCOPES
from api.bank_simulator.running import STATES
from api.cli import app
from api.problems import PROBLEM_TYPES, describe_checks, describe_problems
from api.provider import ImportReport
from api.signatures.reasons import REASONS
from ledger import journal, tables
from ledger.hold_leaves import HoldFacts, StepFacts, capture_leaf, hold_leaf, terms_commitment
from ledger.holds import capture_lines, hold_lines
from ledger.leaf_reading import read_leaf
from ledger.leaves import (
    CreditFacts,
    MaturityFacts,
    credit_leaf,
    evidence_commitment,
    lapse_leaf,
    maturity_leaf,
    reversal_leaf,
    settlement_commitment,
)
from ledger.notices import ManifestFacts, RuleApproval, RuleFacts, manifest_leaf, rule_leaf
from service.activities.intake import ReportedActivity, evidence_document
from service.approvals import RuleName, public_entry, sign_approval
from service.clock import uuid7
from service.database import ServiceTable
from service.jws import thumbprint
from service.keyring import Keyring
from service.manifests import Counts, received_document
from service.quantification.methodology import load_catalogue
from service.quantification.points import expires_on, load_points_rules
from service.settings import describe_settings
from tests.api.bankers import offered, open_bank
from tests.running import Api
from tests.test_pages import write_pages

OUTCOME = ("redemptions", "reconciled", "reconciliation")  # of the demonstration, beside the import's
RECONCILIATION = ("entries", "log_size", "agreed", "closed", "preliminary")

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
EVERY_DOCUMENT = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))

# The example of docs/audit.md: one ride, told as a credit, then taken back, and another month's points run out.
_RODE = datetime(2026, 5, 1, 8, 0, tzinfo=timezone(timedelta(hours=8)))
_POSTED = datetime(2026, 5, 1, 0, 20, 7, 481516, tzinfo=UTC)
_PARTICIPANT = UUID("7b0f9c1e-2f4d-4c6a-9e53-1d0c8a7b6e5f")
_SALT, _NONCE, _KEY = bytes(range(32)), bytes(range(16)), bytes(range(32, 64))


def _id(number: int) -> UUID:
    return uuid7(_POSTED + timedelta(hours=number), bytes([number] * 10))


def example_evidence() -> bytes:
    """The evidence document of the example's ride."""
    return evidence_document(
        ReportedActivity(
            event_id="ride-1",
            subject="rider-7",
            type="org.tanpuhui.activity.v1",
            time=None,
            scenario="shared-ebike",
            started_at=_RODE,
            ended_at=_RODE + timedelta(minutes=12),
            inputs={"distance_km": Decimal("2.350")},
            basis={"distance_km": "track"},
            vehicle="1381",
        )
    )


EXAMPLE_RECORD = (
    b'{"facts":{"tier":"2"},"first_day":"2026-01-01","last_day":"2026-01-31","scenario":"home-power","v":"1"}'
)
EXAMPLE_TERMS = rfc8785.dumps(
    {
        "redemption": str(_id(4)),
        "bank": "https://bank.example/green",
        "pool": "demo-green-pool",
        "offer": "green-voucher",
        "offer_version": "1",
        "offer_digest": hashlib.sha256(b"the offer's document").hexdigest(),
        "units": "3",
        "points": "60",
        "value_fen": "600",
        "co2e_mg": "0",
        "hold_seconds": "7200",
        "request": None,
        "reference": None,
        "wish": None,
        "wished_units": None,
        "v": "1",
        "consent": {"given_at": "2026-05-01T04:20:07Z", "text_version": "green-voucher-1"},
        "facts": {
            "available_points": "82",
            "covered": False,
            "redeemed_before": False,
            "redeemed_units_this_year": "0",
            "verified_g": "82",
        },
    }
)
EXAMPLE_SOURCE_KEY = {"crv": "Ed25519", "kty": "OKP", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
EXAMPLE_RECEIVED = received_document("urn:example:rides", _RODE.date(), {"shared-ebike": Counts(1, 0, 82273, 82)})


def example_approval(rule: RuleName, role: str, approver: str, seed: int) -> RuleApproval:
    """An approval by the key of this seed, signed on the day of the ride."""
    key = Ed25519PrivateKey.from_private_bytes(bytes([seed] * 32))
    kid, public_key = public_entry(key.public_key())["kid"], key.public_key().public_bytes_raw()
    signature = sign_approval(key, "demo", rule, role, _RODE.date())
    return RuleApproval(role, approver, kid, public_key.hex(), signature.hex(), _RODE.date())


def example_leaves() -> dict[str, bytes]:
    """One leaf of every kind."""
    methodology = load_catalogue().in_force("shared-ebike", _RODE.date())
    rule = load_points_rules().in_force(_RODE.date())
    account = journal.Account(_PARTICIPANT, "citizen", "demo", "310000")
    bucket = expires_on(rule, _RODE.date())
    credited = journal.credit_lines(
        account, co2e_mg=82273, points=82, credit_class="behaviour", vintage=2026, expires_on=bucket
    )
    holder = journal.posted(account, credited)

    def transfer(number: int, kind: str, lines: tuple[journal.Line, ...], **rest: Any) -> journal.Transfer:
        at = _POSTED + timedelta(hours=number)
        head = (_id(number), _PARTICIPANT, kind, number + 1, "demo", "310000")
        return journal.Transfer(*head, lines, _RODE.date(), at, **rest)

    credit = transfer(0, "credit", credited)
    back = journal.reversal_lines(holder, {bucket: 82}, credited)
    reversal = transfer(1, "reversal", back, reverses=credit.transfer_id, reason="posted_in_error")
    lapse = transfer(2, "lapse", journal.lapse_lines({date(2026, 4, 30): 17}, _RODE.date()))
    waiting = journal.credit_lines(
        account,
        co2e_mg=96500,
        points=96,
        credit_class="scenario",
        vintage=2026,
        expires_on=bucket,
        pending=True,
        funded_points=9,
    )
    freed = journal.maturity_lines(journal.posted(account, waiting), waiting, expires_on=bucket)
    maturity = transfer(3, "maturity", freed, matures=uuid7(_POSTED - timedelta(days=80), bytes([9] * 10)))
    settled = MaturityFacts(
        authority="source",
        awaited="settlement",
        facts=settlement_commitment(_SALT, EXAMPLE_RECORD),
        source="urn:example:meters",
        points_rule=rule.digest,
    )
    name = RuleName("methodology", methodology.id, methodology.version, methodology.digest)
    approved = RuleFacts(
        "demo",
        "methodology",
        methodology.id,
        methodology.version,
        methodology.status,
        methodology.digest,
        (
            example_approval(name, "competent_authority", "bureau-3", 1),
            example_approval(name, "technical_body", "institute-12", 2),
        ),
    )
    closing = ManifestFacts(
        source="urn:example:rides",
        programme="demo",
        region="310000",
        day=_RODE.date(),
        sequence=1,
        digest=hashlib.sha256(b"the manifest's JWS").hexdigest(),
        received=hashlib.sha256(EXAMPLE_RECEIVED).hexdigest(),
        key=thumbprint(json.dumps(EXAMPLE_SOURCE_KEY, separators=(",", ":"))).hex(),
    )
    event = Keyring(1, {1: _KEY}).tag("event", b"urn:example:rides\0ride-1")
    facts = CreditFacts(
        activity=credit.transfer_id,
        source="urn:example:rides",
        grade="A",
        methodology=methodology.digest,
        points_rule=rule.digest,
        evidence=evidence_commitment(_SALT, example_evidence()),
        claims=(f"1:{event.hex()}",),
    )
    held = hold_lines({bucket: 82}, {}, points=60, co2e_mg=0)
    hold = transfer(4, "hold", held)
    capture = transfer(5, "capture", capture_lines(held, points=40, co2e_mg=0), hold_id=hold.transfer_id)
    asked, bank = hashlib.sha256(b"the bank's signed call").hexdigest(), "https://bank.example/green"
    agreed = HoldFacts(
        bank=bank,
        offer=hashlib.sha256(b"the offer's document").hexdigest(),
        pool="demo-green-pool",
        units=3,
        value_fen=600,
        terms=terms_commitment(_SALT, EXAMPLE_TERMS),
        expires_at=(_POSTED + timedelta(hours=6)).replace(microsecond=0),
    )
    taken = StepFacts(bank, "demo-green-pool", units=2, value_fen=400, signature=asked)
    return {
        "credit": credit_leaf(credit, "citizen", facts, _NONCE),
        "reversal": reversal_leaf(reversal, "citizen", "operator", _NONCE),
        "lapse": lapse_leaf(lapse, "citizen", _NONCE),
        "maturity": maturity_leaf(maturity, "citizen", settled, _NONCE),
        "hold": hold_leaf(hold, "citizen", agreed, _NONCE),
        "capture": capture_leaf(capture, "citizen", taken, _NONCE),
        "rule": rule_leaf(approved, _POSTED, _NONCE),
        "manifest": manifest_leaf(closing, _POSTED + timedelta(days=1), _NONCE),
    }


def _leaf_hash(leaf: bytes) -> str:
    return hashlib.sha256(b"\x00" + leaf).hexdigest()


def _hex_lines(content: bytes) -> list[str]:
    return [f"{at:04x}  {content[at : at + 32].hex(' ', -4)}" for at in range(0, len(content), 32)]


def _worked_example() -> Iterator[str]:
    evidence, leaves = example_evidence(), example_leaves()
    yield from (f"**Evidence document**, {len(evidence)} bytes:", "", "```json", evidence.decode(), "```", "")
    yield f"**Salt** (in the example the bytes 00 to 1f): `{_SALT.hex()}`  "
    commitment = evidence_commitment(_SALT, evidence)
    yield f"**Commitment**, SHA-256 of `tanpuhui/evidence/1\\n`, salt and document: `{commitment}`"
    record, received = EXAMPLE_RECORD.decode(), EXAMPLE_RECEIVED.decode()
    yield from ("", "**Settlement record** of the maturity, under the same salt:", "", "```json", record, "```")
    yield from ("", "**Terms** of the hold, under the same salt:", "", "```json", EXAMPLE_TERMS.decode(), "```")
    yield from ("", "**What had been received**, for the manifest:", "", "```json", received, "```")
    key = json.dumps(EXAMPLE_SOURCE_KEY, separators=(",", ":"))
    yield from ("", "**The source's public key**, for its thumbprint:", "", "```json", key, "```")
    for kind, leaf in leaves.items():
        yield from ("", f"**Leaf of a {kind}**, {len(leaf)} bytes:", "", "```json", leaf.decode(), "```", "")
        yield f"- SHA-256 of the bytes: `{hashlib.sha256(leaf).hexdigest()}`"
        yield f"- leaf hash, SHA-256 of `00` and the bytes: `{_leaf_hash(leaf)}`"
    yield from ("", "The bytes of the lapse, in hexadecimal:", "", "```text", *_hex_lines(leaves["lapse"]), "```")


def _scopes() -> Iterator[str]:
    yield from ("| role 角色 | scopes 权限 |", "| --- | --- |")
    for role, scopes in ROLE_SCOPES.items():
        yield f"| `{role}` | {', '.join(f'`{scope}`' for scope in sorted(scopes))} |"


def _checks() -> Iterator[str]:
    yield from ("| | check | 检查 | problems |", "| --- | --- | --- | --- |")
    for number, ((en, slugs), (zh, _)) in enumerate(
        zip(describe_checks("en"), describe_checks("zh"), strict=True), start=1
    ):
        yield f"| {number} | {en} | {zh} | {', '.join(f'`{slug}`' for slug in slugs)} |"


def _problems() -> Iterator[str]:
    yield from ("| type | status | final | members | what it says, and what to do |", "| --- | --- | --- | --- | --- |")
    for en, zh in zip(describe_problems("en"), describe_problems("zh"), strict=True):
        name = f"`{en.slug}`" if en.type.endswith(f":{en.slug}") else f"`{en.slug}`<br>`{en.type}`"
        members = ", ".join(f"`{member}`" for member in en.members) or "–"
        said = f"**{en.title}.** {en.detail} *{en.remedy}*<br>**{zh.title}。** {zh.detail}*{zh.remedy}*"
        yield f"| {name} | {en.status} | {'yes' if en.final else 'no'} | {members} | {said} |"


def _reasons() -> Iterator[str]:
    yield from ("| reason | what it says | 含义 |", "| --- | --- | --- |")
    for reason, text in REASONS.items():
        yield f"| `{reason}` | {text.en.format(named='…')} | {text.zh.format(named='…')} |"


def _settings() -> Iterator[str]:
    yield from ("| variable 变量 | default 缺省 | meaning 含义 |", "| --- | --- | --- |")
    for row in describe_settings():
        default = row.default if " / " in row.default or "data_dir" in row.default else f"`{row.default}`"
        yield f"| `{row.variable}` | {default} | {row.en}<br>{row.zh} |"


def _walk(command: Any, name: str) -> Iterator[tuple[str, str]]:
    for child_name in command.list_commands(None):  # loaded when asked for
        child, path = command.get_command(None, child_name), f"{name} {child_name}"
        if hasattr(child, "list_commands"):
            yield from _walk(child, path)
        else:
            yield path, inspect.cleandoc(child.help or "")


def _commands() -> Iterator[str]:
    yield from ("| command 命令 | what it does 用途 |", "| --- | --- |")
    for name, text in _walk(typer.main.get_command(app), "tanpuhui"):
        first, *rest = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
        yield f"| `{name}` | {'<br>'.join((f'**{first}**', *rest))} |"


def _calls() -> Iterator[str]:
    yield from ("| call 调用 | what for 用途 |", "| --- | --- |")
    for module in pkgutil.iter_modules(api.v1.__path__, "api.v1."):
        for route in importlib.import_module(module.name).router.routes:
            yield f"| `{' '.join(sorted(route.methods))} /v1{route.path}` | {route.summary} |"


def _rules() -> Iterator[str]:
    yield "| document 文档 | version 版本 | where 地区 | act 行为 | status 状态 | computes 可计算 | digest 摘要 |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for one in load_catalogue().all():
        page = f"[{one.id}](methodologies/{one.id}.md) {one.title.zh}"
        computes = "yes 是" if one.reduction and not one.missing else "no 否"
        about = f"{one.jurisdiction} | {one.act} | {one.status} | {computes}"
        yield f"| {page} | {one.version} | {about} | `{one.digest[:16]}…` |"


def _decisions() -> Iterator[str]:
    for page in sorted(ROOT.glob("docs/decisions/*.md")):
        number, title = re.findall(r"^# (\d+)\.? (.+)$", page.read_text("utf-8"), re.MULTILINE)[0]
        yield f"{int(number)}. [{title}](decisions/{page.name})"


GENERATED: dict[str, tuple[str, Callable[[], Iterator[str]]]] = {
    "rules": ("docs/rules.md", _rules),
    "decisions": ("docs/architecture.md", _decisions),
    "worked example": ("docs/audit.md", _worked_example),
    "calls": ("docs/api.md", _calls),
    "scopes": ("docs/api.md", _scopes),
    "checks": ("docs/api.md", _checks),
    "problems": ("docs/api.md", _problems),
    "reasons": ("docs/banks.md", _reasons),
    "settings": ("docs/operations.md", _settings),
    "commands": ("docs/operations.md", _commands),
}


def _with_part(text: str, name: str, lines: Iterator[str]) -> str:
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->\n"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    assert (found, closed) == (begin, end), f"the document needs the markers {begin.strip()} and {end.strip()}"
    return f"{before}{begin}{chr(10).join(lines)}\n{end}{after}"


@pytest.mark.parametrize("name", GENERATED)
def test_generated_parts_are_what_the_code_says(name: str) -> None:
    path, lines = GENERATED[name]
    text = (ROOT / path).read_text("utf-8")
    assert _with_part(text, name, lines()) == text, "renew it: .venv/bin/python -m tests.test_docs --write"


def test_every_field_of_a_leaf_is_described() -> None:
    text = (ROOT / "docs/audit.md").read_text("utf-8")
    for kind, leaf in example_leaves().items():
        fields = read_leaf(leaf)
        assert rfc8785.dumps(fields) == leaf
        assert f"### {kind}" in text
        parts = [*fields.get("lines", ()), *fields.get("approvals", ())]
        for name in {*fields, *(name for part in parts for name in part)}:
            assert f"| `{name}` |" in text, f"docs/audit.md says nothing of {name} in the leaf of a {kind}"


def test_every_problem_has_its_place_in_the_order_of_checks() -> None:
    assert {slug for _, slugs in describe_checks("en") for slug in slugs} == PROBLEM_TYPES.keys()


def test_every_metric_is_described() -> None:
    text = (ROOT / "docs/operations.md").read_text("utf-8")
    for family in REGISTRY.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert not name.startswith("tanpuhui_") or f"| `{name}` |" in text, f"docs/operations.md says nothing of {name}"


def test_every_difference_that_the_check_finds_is_described() -> None:
    text = (ROOT / "docs/operations.md").read_text("utf-8")
    for name in (*ledger.check._DIFFERENCES, *service.redemption.check._DIFFERENCES, "leaf content"):
        assert f"`{name}`" in text, f"docs/operations.md does not say what to do about the difference {name}"


def test_the_result_of_an_import_is_described() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    shown = [json.loads(block) for block in _fences(readme, "json")]
    assert [list(document) for document in shown] == [[*ImportReport().as_json(), *OUTCOME]]
    assert [list(shown[0][name]) for name in OUTCOME if name != "reconciled"] == [list(STATES), list(RECONCILIATION)]
    assert shown[0]["posted"] == shown[0]["credited"] + sum(shown[0]["refused"].values())


def test_every_document_is_linked() -> None:
    linked = set()
    for path in (ROOT / "README.md", ROOT / "docs/architecture.md", ROOT / "docs/rules.md"):
        linked |= {(path.parent / target).resolve() for target, _ in _links(path.read_text("utf-8"))}
    assert not [path for path in DOCUMENTS if path not in linked and path.name != "README.md"]


@EVERY_DOCUMENT
def test_links_lead_somewhere(path: Path) -> None:
    for target, anchor in _links(path.read_text("utf-8")):
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), f"{path.name} links to {target}, which is not there"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
            assert anchor in map(_anchor, titles), f"{path.name} links to #{anchor}, no title of {file.name}"


@EVERY_DOCUMENT
def test_code_that_is_named_exists(path: Path) -> None:
    """`service/poster.py` is a file, `ledger.journal.Transfer` is an object, `ledger.movement` is a table."""
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    known = {
        f"{table.schema}.{table.name}"
        for table in (*tables.metadata.tables.values(), *ServiceTable.metadata.tables.values())
    }
    for name in re.findall(r"`([\w./-]+\.(?:py|yaml|toml|md|txt|gz))`", text):
        assert any((root / name).exists() for root in (ROOT, path.parent)), f"{path.name} names {name}, no such file"
    for name in re.findall(r"`((?:api|service|ledger|tests)(?:\.\w+)+)(?:\(\))?`", text):
        table = ".".join(name.split(".")[:2])
        assert table in known or _object(name) is not None, f"{path.name} names {name}, which is nowhere"


@EVERY_DOCUMENT
def test_nothing_in_a_document_belongs_to_one_machine(path: Path) -> None:
    assert not re.search(r"(?<![\w.])/(work|tmp|home|root|dev/shm)/", path.read_text("utf-8"))


@EVERY_DOCUMENT
def test_python_examples_give_what_they_show(path: Path) -> None:
    names: dict[str, Any] = {}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    for number, block in enumerate(_fences(path.read_text("utf-8"), "python")):
        example = doctest.DocTestParser().get_doctest(block, names, f"{path.name} {number}", str(path), 0)
        runner.run(example, out=report.append, clear_globs=False)
        names.update(example.globs)
    assert not runner.failures, "".join(report)


@pytest.mark.anyio
async def test_calls_are_answered_as_docs_api_md_shows(fresh_api: Api) -> None:
    """Every curl command of the document in its order. An answer may be shortened there; ids, times and days differ."""
    text = (ROOT / "docs/api.md").read_text("utf-8")
    calls = re.findall(r"^```sh\n(curl .*?)^```\n\n```http\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(calls) == len(re.findall(r"^curl ", text, re.MULTILINE)), "a call without its answer"
    known = {
        "HOST": "http://tests",
        "OPERATOR": _token(fresh_api.bearer("operator")),
        "PROVIDER": _token(fresh_api.bearer("provider", source="urn:example:rides")),
    }
    await offered(await open_bank(fresh_api, "https://bank.example/green"), id="green-voucher")
    for command, shown in calls:
        answer = await fresh_api.client.send(_request(Template(command).substitute(known)))
        _compare(shown, answer)
        _remember(answer, known)
        if "PARTICIPANT" in known:
            known["RIDER"] = _token(fresh_api.bearer("participant", known["PARTICIPANT"]))


def _token(headers: dict[str, str]) -> str:
    return headers["Authorization"].removeprefix("Bearer ")


def _request(command: str) -> httpx.Request:
    words = shlex.split(command.replace("\\\n", " "))[1:]
    method, headers, body, url = "", {"Accept-Language": "en"}, None, ""
    while words:
        match words.pop(0):
            case "-X":
                method = words.pop(0)
            case "-H":
                name, _, value = words.pop(0).partition(": ")
                headers[name] = value
            case "-d":
                body = words.pop(0)
            case "-s":
                continue
            case other:
                url = other
    return httpx.Request(method or ("POST" if body else "GET"), url, headers=headers, content=body)


def _compare(shown: str, answer: httpx.Response) -> None:
    head, _, body = shown.partition("\n\n")
    status, *headers = head.splitlines()
    assert status.split()[1] == str(answer.status_code), answer.text
    for line in headers:
        name, _, value = line.partition(": ")
        assert re.sub(r"\d+", "#", answer.headers[name]) == re.sub(r"\d+", "#", value), line
    if body.strip():
        _contains(json.loads(body), answer.json(), "answer")


def _contains(shown: Any, found: Any, where: str) -> None:
    if isinstance(shown, dict):
        for name, value in shown.items():
            assert name in found, f"{where} has no {name}: {found}"
            _contains(value, found[name], f"{where}.{name}")
    elif isinstance(shown, list):
        assert len(shown) == len(found), f"{where}: {found}"
        for number, (one, other) in enumerate(zip(shown, found, strict=True)):
            _contains(one, other, f"{where}[{number}]")
    else:
        assert _steady(shown) == _steady(found), where


def _steady(value: Any) -> Any:
    """A value without what differs from one run to the next: ids, times, days, cursors."""
    if not isinstance(value, str):
        return value
    value = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<id>", value)
    value = re.sub(r"\d{4}-\d\d-\d\d(T[\d:.]+Z)?", "<time>", value)
    return re.sub(r"^[\w-]{32}$", "<cursor>", value)


def _remember(answer: httpx.Response, known: dict[str, str]) -> None:
    document = answer.json() if answer.content else {}
    for name, value in (
        ("PARTICIPANT", document.get("participant_id")),
        ("LINK", document.get("links", [{}])[0].get("link_id")),
        ("TRANSFER", document.get("transfer_id")),
        ("NEXT", document.get("next")),
        ("REDEMPTION", document.get("redemption", {}).get("redemption_id")),
        ("DIGEST", document.get("methodologies", [{}])[0].get("digest")),
    ):
        if value:
            known.setdefault(name, value)


def _fences(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def _links(text: str) -> list[tuple[str, str]]:
    """Target and anchor of every link that stays in the repository."""
    found = re.findall(
        r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    )
    return [(target, anchor) for target, anchor in found if not re.match(r"[a-z]+:", target)]


def _anchor(title: str) -> str:
    """The anchor that Git hosts give a title."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def _object(name: str) -> object | None:
    """The module, class or function of a dotted name; a part of a class or an annotated field counts too."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if part in getattr(found, "__annotations__", {}):
                return found  # type: ignore[no-any-return]
            found = getattr(found, part, None)
        return found  # type: ignore[no-any-return]
    return None


def write() -> None:
    """Renew the generated parts."""
    for name, (file, lines) in GENERATED.items():
        path = ROOT / file
        path.write_text(_with_part(path.read_text("utf-8"), name, lines()), "utf-8")
    write_pages()


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    write()
