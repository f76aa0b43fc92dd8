"""What an auditor takes away over HTTP beside the log's own files: evidence, rules, the documents and signed calls of
redemptions, checkpoints, manifests, keys, totals.

Each answer is a part of a bundle, byte for byte as `tanpuhui audit export` writes it beside the database
(docs/audit.md). A platform has no auditor but those whose token says so.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.dependencies import CALL_PROBLEMS, admit, charge, platform_of
from api.platform import Platform
from api.problems import Fault, Problem, openapi_problems
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.errors import TileInvalid
from ledger.notes import parse_note
from service.audit.export import (
    checkpoint_lines,
    epoch_files,
    evidence_lines,
    manifest_lines,
    read_counts,
    read_epoch,
    read_log_keys,
    read_policy,
    read_rule,
    read_source_keys,
    read_totals,
)
from service.audit.redeemed import call_lines, read_bank_keys, read_document
from service.audit.reporting import report_lines
from service.audit.source import ExportStopped, parse_mark, parse_range, ranges_of

router = APIRouter(prefix="/audit", tags=["audit"])

JSON, LINES = "application/json", "application/jsonl"
_PRIVATE = {"Cache-Control": "no-store"}  # what is erased here must not live on in a cache
_PROBLEMS = (*CALL_PROBLEMS, "malformed-request", "log-not-found")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class BundleView(BaseModel):
    """What there is to take away: the log by its newest checkpoint, and how much stands beside it.

    evidence_files   how many ranges of 65,536 entries there are, each with a file of evidence, the last one not full
    witness_policy   the text of the policy that the log's operator states, where there is one
    """

    programme: str
    origin: str
    epoch: int
    size: int
    evidence_files: int
    rules: int
    manifests: int
    source_keys: int
    bank_keys: int
    witness_policy: str | None


class KeysView(BaseModel):
    """The log's verifier keys, the current one first, and every public key of every data provider and every bank, those
    that have ended too."""

    log: list[str]
    sources: list[dict[str, Any]]
    banks: list[dict[str, Any]]


class TotalsView(BaseModel):
    """The totals of system accounts over exactly the first `folded_to` entries."""

    folded_to: str
    totals: list[dict[str, str]]


Size = Annotated[
    str | None,
    Query(max_length=19, description="up to which entry, at most the size of the checkpoint; by default up to that"),
]


@router.get(
    "/bundle",
    summary="What there is to audit 可审计内容",
    response_model=BundleView,
    responses=openapi_problems(*_PROBLEMS),
)
async def bundle(request: Request) -> Response:
    """The log's newest checkpoint and how much stands beside it: an export begins here."""
    platform, headers = await _admitted(request)
    async with platform.pool.acquire() as connection:
        epoch, counts = await read_epoch(connection), await read_counts(connection)
    checkpoint = await _checkpoint(platform, epoch)
    try:
        policy = await asyncio.to_thread(read_policy, platform.settings.witness_policy)
    except ExportStopped:
        raise Problem("log-not-found", name="witness.policy") from None
    view = BundleView(
        programme=platform.settings.programme,
        origin=checkpoint.origin,
        epoch=epoch,
        size=checkpoint.size,
        evidence_files=ranges_of(checkpoint.size),
        rules=counts.rules,
        manifests=counts.manifests,
        source_keys=counts.source_keys,
        bank_keys=counts.bank_keys,
        witness_policy=policy,
    )
    return Response(view.model_dump_json(), headers=headers, media_type=JSON)


@router.get(
    "/evidence/{path:path}",
    summary="Evidence of a range 一段条目的证据",
    response_class=StreamingResponse,
    responses=openapi_problems(*_PROBLEMS),
)
async def evidence(request: Request, path: str, size: Size = None) -> Response:
    """What is left of the evidence of 65,536 entries, one JSON line each: `000` is the first range, `x001/234` the
    1,235th. What was erased is not there."""
    platform, headers = await _admitted(request)
    number, wanted = await _range(platform, "evidence", path, size)
    return _streamed(evidence_lines(platform.pool, platform.vault, number, wanted), headers)


@router.get(
    "/calls/{path:path}",
    summary="Signed calls of a range 一段条目的签名请求",
    response_class=StreamingResponse,
    responses=openapi_problems(*_PROBLEMS),
)
async def calls(request: Request, path: str, size: Size = None) -> Response:
    """The calls by which banks asked for holds and their steps, one JSON line for each entry that names one: what was
    signed, the signature, the key, and the body. Ranges are named as those of evidence."""
    platform, headers = await _admitted(request)
    number, wanted = await _range(platform, "calls", path, size)
    return _streamed(call_lines(platform.pool, number, wanted), headers)


@router.get(
    "/reports/{path:path}",
    summary="Signed reports of a range 一段条目的数据方签名请求",
    response_class=StreamingResponse,
    responses=openapi_problems(*_PROBLEMS),
)
async def reports(request: Request, path: str, size: Size = None) -> Response:
    """The calls that sources signed, one JSON line for each that is behind credits of the range: what was signed, the
    signature, the key, and the body where it was not erased. Ranges are named as those of evidence."""
    platform, headers = await _admitted(request)
    number, wanted = await _range(platform, "reports", path, size)
    return _streamed(report_lines(platform.pool, platform.vault, number, wanted), headers)


@router.get(
    "/rules/{digest}",
    summary="A rule document 规则文档",
    responses=openapi_problems(*_PROBLEMS),
)
async def rule(request: Request, digest: str) -> Response:
    """The canonical bytes of a methodology or points rule that was ever registered; their SHA-256 is the digest."""
    platform, headers = await _admitted(request)
    document = None
    if _DIGEST.fullmatch(digest):
        async with platform.pool.acquire() as connection:
            document = await read_rule(connection, digest)
    if document is None:
        raise Problem("log-not-found", name=f"rules/{digest[:64]}")
    return Response(document, headers=headers, media_type=JSON)


@router.get(
    "/documents/{digest}",
    summary="A product, an offer, a pool's terms or a statement 产品、权益、资金池条款或对账单",
    responses=openapi_problems(*_PROBLEMS),
)
async def document(request: Request, digest: str) -> Response:
    """The bytes of a document that an entry names; their SHA-256 is the digest."""
    platform, headers = await _admitted(request)
    content = None
    if _DIGEST.fullmatch(digest):
        async with platform.pool.acquire() as connection:
            content = await read_document(connection, digest)
    if content is None:
        raise Problem("log-not-found", name=f"documents/{digest[:64]}")
    return Response(content, headers=headers, media_type=JSON)


@router.get(
    "/checkpoints",
    summary="Every signed checkpoint 全部已签名检查点",
    response_class=StreamingResponse,
    responses=openapi_problems(*_PROBLEMS),
)
async def checkpoints(
    request: Request,
    after: Annotated[str | None, Query(max_length=40, description="epoch:size of the last one that you have")] = None,
    to: Annotated[str | None, Query(max_length=40, description="epoch:size of the last one you want")] = None,
) -> Response:
    """Every checkpoint that was signed, one JSON line each, in order: the notes as the log alone signed them."""
    platform, headers = await _admitted(request)
    begin, end = _mark(after, "after") or (0, 0), _mark(to, "to")
    if end is None:
        async with platform.pool.acquire() as connection:
            epoch = await read_epoch(connection)
        end = epoch, (await _checkpoint(platform, epoch)).size
    return _streamed(checkpoint_lines(platform.pool, begin, end), headers)


@router.get(
    "/manifests",
    summary="Every day manifest 全部日清单",
    response_class=StreamingResponse,
    responses=openapi_problems(*_PROBLEMS),
)
async def manifests(
    request: Request,
    after: Annotated[
        str | None, Query(max_length=19, description="index in the log of the last one that you have")
    ] = None,
    size: Size = None,
) -> Response:
    """What is stored of every manifest that has an entry, one JSON line each: what had been received, the signed text
    where it was not erased, and the key under which it was signed."""
    platform, headers = await _admitted(request)
    wanted = _size(size, await _signed(platform))
    behind = -1 if after is None else _count(after, "after")
    return _streamed(manifest_lines(platform.pool, behind, wanted), headers)


@router.get(
    "/keys",
    summary="Public keys 公钥",
    response_model=KeysView,
    responses=openapi_problems(*_PROBLEMS),
)
async def keys(request: Request) -> Response:
    """The log's verifier keys, the current one first, and the public keys of data providers and banks. The keys of
    those who approve rules are in the log's entries."""
    platform, headers = await _admitted(request)
    async with platform.pool.acquire() as connection:
        sources, banks = await read_source_keys(connection), await read_bank_keys(connection)
    try:
        log = read_log_keys(platform.settings.log_dir)
    except ExportStopped:
        raise Problem("log-not-found", name="log.vkey") from None
    return Response(orjson.dumps({"banks": banks, "log": log, "sources": sources}), headers=headers, media_type=JSON)


@router.get(
    "/totals",
    summary="Totals of system accounts 系统账户合计",
    response_model=TotalsView,
    responses=openapi_problems(*_PROBLEMS),
)
async def totals(request: Request, size: Size = None) -> Response:
    """The published totals, brought to exactly the first `size` entries."""
    platform, headers = await _admitted(request)
    wanted = _size(size, await _signed(platform))
    async with (
        platform.counting,
        platform.pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        content = await read_totals(connection, wanted)
    return Response(content, headers=headers, media_type=JSON)


async def _admitted(request: Request) -> tuple[Platform, dict[str, str]]:
    caller = await admit(request, "audit:read")
    return platform_of(request), _PRIVATE | await charge(request, caller)


async def _signed(platform: Platform) -> int:
    """How many entries are signed."""
    async with platform.pool.acquire() as connection:
        epoch = await read_epoch(connection)
    return (await _checkpoint(platform, epoch)).size


async def _range(platform: Platform, folder: str, path: str, size: str | None) -> tuple[int, int]:
    """The range of a path, and up to which entry it is asked for. Raises Problem log-not-found."""
    wanted = _size(size, await _signed(platform))
    try:
        number = parse_range(path)
    except TileInvalid:
        number = None
    if number is None or number >= ranges_of(wanted):
        raise Problem("log-not-found", name=f"{folder}/{path[:100]}")
    return number, wanted


async def _checkpoint(platform: Platform, epoch: int) -> Checkpoint:
    """The checkpoint that is served now. Raises Problem log-not-found before the first."""
    files = epoch_files(platform.settings.log_dir, epoch)
    note = await asyncio.to_thread(files.read_checkpoint)
    if note is None:
        raise Problem("log-not-found", name="checkpoint")
    return parse_checkpoint(parse_note(note).text)


def _size(text: str | None, signed: int) -> int:
    """Up to which entry something is asked for; nothing beyond what is signed is shown."""
    size = signed if text is None else _count(text, "size")
    if size > signed:
        raise Problem("log-not-found", name=f"checkpoint?size={size}")
    return size


def _count(text: str, name: str) -> int:
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", text, re.ASCII):
        raise _malformed(name, "0, 1, 2, …")
    return int(text)


def _mark(text: str | None, name: str) -> tuple[int, int] | None:
    try:
        return None if text is None else parse_mark(text)
    except ValueError:
        raise _malformed(name, "epoch:size") from None


def _malformed(name: str, expected: str) -> Problem:
    return Problem("malformed-request", faults=[Fault(name, "bad-format", {"expected": expected}, where="query")])


def _streamed(lines: AsyncIterator[bytes], headers: dict[str, str]) -> Response:
    """An answer of lines. When the database goes away within it the connection is cut: a part looks like no whole."""
    return StreamingResponse(lines, headers=headers, media_type=LINES)
