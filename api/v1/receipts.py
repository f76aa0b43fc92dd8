"""Receipts: the proof that a transfer, or the balance at the end of a day, is in the signed log, for its participant to
keep and verify offline."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from api.auth import require_participant
from api.dependencies import CALL_PROBLEMS, admit, charge, platform_of
from api.preferences import preferred_wait_s
from api.problems import Problem, openapi_problems
from ledger.checkpoint import Proof
from service.log.publish import files_of
from service.own import own_rows
from service.receipts import (
    SealNotFound,
    balance_receipt_of,
    read_entry,
    read_epoch,
    read_sealed_entry,
    receipt_of,
)

router = APIRouter(tags=["receipts"])

RECEIPT_TYPE = "text/plain; charset=utf-8"
LOOK_EVERY_S = 0.1


@router.get(
    "/participants/{participant_id}/transfers/{transfer_id}/receipt",
    summary="The receipt of a transfer 一笔划转的回执",
    responses=openapi_problems(*CALL_PROBLEMS, "transfer-not-found", "receipt-not-ready"),
)
async def receipt(request: Request, participant_id: UUID, transfer_id: UUID) -> Response:
    """A `.tlog-proof` file (C2SP): the entry, its place, the hashes up to the root, and the signed checkpoint.

    A transfer is covered by a checkpoint a second or two after it was posted. With `Prefer: wait=5` (RFC 7240) the
    answer waits for it, ten seconds at most.
    """
    platform = platform_of(request)
    caller = await admit(request, "balance:read")
    require_participant(caller, participant_id)
    headers = await charge(request, caller)
    log_dir = platform.settings.log_dir

    async def look() -> tuple[str, Proof | None]:
        async with own_rows(platform.pool, participant_id) as connection:
            entry, epoch = await read_entry(connection, participant_id, transfer_id), await read_epoch(connection)
        found = await asyncio.to_thread(receipt_of, files_of(log_dir, epoch), *entry) if entry else None
        return str(transfer_id), found

    return await _answer(request, look, headers)


@router.get(
    "/participants/{participant_id}/receipt",
    summary="The receipt of a balance 余额回执",
    responses=openapi_problems(
        *CALL_PROBLEMS, "malformed-request", "participant-not-found", "seal-not-found", "receipt-not-ready"
    ),
)
async def balance_receipt(
    request: Request,
    participant_id: UUID,
    day: Annotated[
        date | None, Query(description="An Asia/Shanghai day; by default the latest that is sealed.")
    ] = None,
) -> Response:
    """A `.tlog-proof` file of the seal of a day, which carries the participant's balance at its end and the path from
    it to the seal's root.

    A day is sealed a minute after it has ended. `Prefer: wait=5` works as for a transfer's receipt.
    """
    platform = platform_of(request)
    caller = await admit(request, "balance:read")
    require_participant(caller, participant_id)
    headers = await charge(request, caller)
    log_dir = platform.settings.log_dir

    async def look() -> tuple[str, Proof | None]:
        async with own_rows(platform.pool, participant_id) as connection:
            sealed, epoch = await read_sealed_entry(connection, participant_id, day), await read_epoch(connection)
        if sealed is None:
            return "", None
        found = await asyncio.to_thread(balance_receipt_of, files_of(log_dir, epoch), log_dir, sealed)
        return f"{participant_id}-{sealed.day}", found

    try:
        return await _answer(request, look, headers)
    except SealNotFound:
        raise Problem("seal-not-found") from None


async def _answer(
    request: Request,
    look: Callable[[], Awaitable[tuple[str, Proof | None]]],
    headers: dict[str, str],
) -> Response:
    """What `look` finds, as a file of the name it gives; waited for as long as the caller would. Raises Problem
    receipt-not-ready."""
    wait_s, loop = preferred_wait_s(request), asyncio.get_running_loop()
    give_up = loop.time() + wait_s
    while True:
        name, found = await look()
        if found is not None:
            break
        if loop.time() >= give_up:
            raise Problem("receipt-not-ready", headers={"Retry-After": "1"})
        await asyncio.sleep(LOOK_EVERY_S)
    headers |= {"Content-Disposition": f'attachment; filename="{name}.tlog-proof"'}
    if wait_s:
        headers["Preference-Applied"] = f"wait={wait_s}"
    return Response(str(found), headers=headers, media_type=RECEIPT_TYPE)
