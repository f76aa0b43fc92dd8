"""Green products 绿色金融产品: the public board with its history, and the desk at which documents are submitted and
listed."""

from collections.abc import Awaitable, Callable
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from api.board import STATE_TITLES, StopReason, change_view, offer_view, product_view, title
from api.body import media_type, parse_json, read_body
from api.dependencies import (
    BODY_MODELS,
    BODY_PROBLEMS,
    CALL_PROBLEMS,
    JSON,
    admit,
    charge,
    openapi_body,
    parsed,
    platform_of,
    read_json,
)
from api.operators import operator_code
from api.platform import Platform
from api.problems import Language, Problem, language_of, localized, openapi_problems
from service.database import Connection
from service.products.catalogue import Entry
from service.products.evidence import TAXONOMIES
from service.products.listing import (
    AlreadyApproved,
    Desk,
    DocumentConflict,
    ListingNotFound,
    ListingRefused,
    ListingStateWrong,
    approve,
    read_history,
    resume,
    submit,
    suspend,
    take_down,
)
from service.products.model import CATEGORIES, DocumentKind, Offer, Product
from service.products.parsing import MOST_VERSIONS, ListingInvalid, parse_listing
from service.quantification.document import MAX_BYTES

router = APIRouter(tags=["products"])

YAML = ("text/yaml", "application/yaml")
DocumentId = Annotated[str, Path(pattern="^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
Version = Annotated[int, Path(ge=1, le=MOST_VERSIONS)]
BankFilter = Annotated[str | None, Query(max_length=500, description="only of this bank, by its URI")]
DayFilter = Annotated[date | None, Query(description="only what is on the board on this day")]
BoardFilter = Annotated[bool | None, Query(description="only what is, or is not, on the board today")]
VersionFilter = Annotated[int | None, Query(ge=1, le=MOST_VERSIONS, description="this version, not the current one")]


class ListingSubmission(BaseModel):
    """A product's or an offer's document as text, YAML or canonical JSON; the bytes may also come as text/yaml."""

    model_config = ConfigDict(strict=True, extra="forbid")

    document: Annotated[str, StringConstraints(min_length=1, max_length=MAX_BYTES)]


class ListingReason(BaseModel):
    """Why something is suspended or taken down, for everybody to read."""

    model_config = ConfigDict(strict=True, extra="forbid")

    reason: StopReason


BODY_MODELS[ListingSubmission.__name__] = ListingSubmission
_SUBMISSION = openapi_body(model=ListingSubmission)
_SUBMISSION["requestBody"]["content"]["text/yaml"] = {"schema": {"type": "string"}}
_STEP = ("listing-document-not-found", "listing-state-wrong", "posting-suspended")
_STEP_PROBLEMS = (*CALL_PROBLEMS, "malformed-request", *_STEP)
_REASON_PROBLEMS = (*BODY_PROBLEMS, *_STEP)


@router.get(
    "/products",
    summary="Browse green products 绿色产品名录",
    responses=openapi_problems("malformed-request"),
)
async def list_products(
    request: Request,
    response: Response,
    category: Annotated[Literal[CATEGORIES] | None, Query()] = None,  # type: ignore[valid-type]  # a closed list
    bank: BankFilter = None,
    label: Annotated[str | None, Query(max_length=64, description="only under this catalogue, by its id")] = None,
    valid_on: DayFilter = None,
    on_board: BoardFilter = None,
) -> dict[str, Any]:
    """Every product that was ever listed, with its evidence; whether it is on the board, and why not."""
    platform, language = platform_of(request), language_of(request)
    response.headers.update(localized(language))
    day = valid_on or platform.today()
    found = []
    for entry in platform.offers.entries("product"):
        product = entry.document
        assert isinstance(product, Product)
        if entry.state == "submitted" or category not in (None, product.category) or bank not in (None, product.bank):
            continue
        if label not in (None, product.taxonomy.name) or (valid_on is not None and valid_on not in product.valid):
            continue
        stands = not platform.offers.why_not(entry, day)
        if (valid_on is None or stands) and on_board in (None, stands):
            found.append(product_view(platform.offers, entry, day, language))
    return {
        "products": found,
        "catalogues": [
            {"name": name, "version": version, "title": getattr(text, language)}
            for (name, version), (text, _) in TAXONOMIES.items()
        ],
    }


@router.get(
    "/products/documents",
    summary="List submitted documents 已提交的文档",
    responses=openapi_problems(*CALL_PROBLEMS),
)
async def list_documents(request: Request, response: Response) -> dict[str, Any]:
    """What an operator has to decide on: every draft, and of every other id the version on the board or the last that
    was, with what stands against each."""
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "products:write")
    response.headers.update(await charge(request, caller) | localized(language))
    shown = [*platform.offers.entries("product"), *platform.offers.entries("offer")]
    entries = [*platform.offers.drafts(), *(entry for entry in shown if entry.state != "submitted")]
    return {"documents": [_entry_view(platform, entry, language) for entry in entries]}


@router.get(
    "/products/documents/{digest}",
    summary="Read a listing's document 读取产品或权益文档",
    response_class=Response,
    responses={200: {"content": {JSON: {}}}, **openapi_problems("malformed-request", "listing-document-not-found")},
)
async def read_document(request: Request, digest: Annotated[str, Path(pattern="^[0-9a-f]{64}$")]) -> Response:
    """The canonical bytes of a product's or an offer's document: their SHA-256 is the digest in the address, in the log
    and in every hold."""
    document = platform_of(request).offers.document(digest)
    if document is None:
        raise Problem("listing-document-not-found")
    return Response(document, 200, {"Cache-Control": "public, max-age=31536000, immutable"}, JSON)


@router.get(
    "/products/{product_id}",
    summary="Read about a product 产品说明",
    responses=openapi_problems("malformed-request", "product-not-found"),
)
async def read_product(
    request: Request, response: Response, product_id: DocumentId, version: VersionFilter = None
) -> dict[str, Any]:
    """A product with its evidence and where it stands: the version on the board, or else the last that was."""
    platform, language = platform_of(request), language_of(request)
    response.headers.update(localized(language))
    entry = platform.offers.entry("product", product_id, version)
    if entry is None or entry.state == "submitted":
        raise Problem("product-not-found")
    return product_view(platform.offers, entry, platform.today(), language)


@router.get(
    "/products/{product_id}/history",
    summary="Read a product's history 产品上下架记录",
    responses=openapi_problems("malformed-request", "product-not-found", "temporarily-unavailable"),
)
async def read_product_history(request: Request, response: Response, product_id: DocumentId) -> dict[str, Any]:
    """Every step of every version: submitted, approved, listed, suspended, resumed, taken down, and why."""
    return await history(request, response, "product", product_id)


async def history(request: Request, response: Response, kind: DocumentKind, document_id: str) -> dict[str, Any]:
    """The history of a product or an offer. Raises Problem product-not-found, offer-not-found."""
    platform, language = platform_of(request), language_of(request)
    response.headers.update(localized(language))
    async with platform.pool.acquire() as connection:
        changes = await read_history(connection, kind, document_id)
    if not changes:
        raise Problem(f"{kind}-not-found")
    return {"id": document_id, "changes": [change_view(change, language) for change in changes]}


@router.put(
    "/products/documents",
    summary="Submit a product or an offer 提交产品或权益文档",
    responses=openapi_problems(
        *BODY_PROBLEMS, "listing-document-invalid", "listing-document-conflict", "posting-suspended"
    ),
    openapi_extra=_SUBMISSION,
)
async def put_document(request: Request, response: Response) -> dict[str, Any]:
    """Keep a document by its digest. It goes on the board when two operators have approved it.

    The same bytes again change nothing; other content under the same id and version is a conflict.
    """
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "products:write")
    source = await _source(request, platform)
    headers = await charge(request, caller)
    try:
        document = parse_listing(source())
    except ListingInvalid as error:
        raise Problem("listing-document-invalid", line=error.line, why=error.reason) from None

    async def act(tx: Connection, desk: Desk) -> None:
        await submit(tx, document, operator_code(platform, caller), desk)

    return await _done(platform, response, headers, language, document.kind, document.id, document.version, act)


async def _source(request: Request, platform: Platform) -> Callable[[], bytes]:
    """The document's bytes, once the form of the body is to be checked."""
    kind = media_type(request.headers)
    if kind not in (*YAML, JSON):
        raise Problem("unsupported-media-type", accepted=f"{YAML[0]}, {JSON}")
    body = await read_body(request, platform.settings.max_body_bytes)
    if kind != JSON:
        return lambda: body
    content = parse_json(body)
    return lambda: parsed(ListingSubmission, content).document.encode("utf-8")


@router.post(
    "/products/documents/{kind}/{document_id}/{version}/approve",
    summary="Approve a listing 批准上架",
    responses=openapi_problems(*_STEP_PROBLEMS, "listing-already-approved", "listing-refused"),
)
async def approve_document(
    request: Request, response: Response, kind: DocumentKind, document_id: DocumentId, version: Version
) -> dict[str, Any]:
    """One person's approval; the second person's lists it. Evidence that is missing, expired or contradictory refuses
    both."""
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "products:approve")
    headers = await charge(request, caller)

    async def act(tx: Connection, desk: Desk) -> None:
        await approve(tx, kind, document_id, version, operator_code(platform, caller), desk)

    return await _done(platform, response, headers, language, kind, document_id, version, act)


@router.post(
    "/products/documents/{kind}/{document_id}/{version}/resume",
    summary="Resume a listing 恢复上架",
    responses=openapi_problems(*_STEP_PROBLEMS, "listing-refused"),
)
async def resume_document(
    request: Request, response: Response, kind: DocumentKind, document_id: DocumentId, version: Version
) -> dict[str, Any]:
    """Put a suspended document back on the board, if its evidence still holds."""
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "products:approve")
    headers = await charge(request, caller)

    async def act(tx: Connection, desk: Desk) -> None:
        await resume(tx, kind, document_id, version, operator_code(platform, caller), desk)

    return await _done(platform, response, headers, language, kind, document_id, version, act)


@router.post(
    "/products/documents/{kind}/{document_id}/{version}/suspend",
    summary="Suspend a listing 暂停",
    responses=openapi_problems(*_REASON_PROBLEMS),
    openapi_extra=openapi_body(model=ListingReason),
)
async def suspend_document(
    request: Request, response: Response, kind: DocumentKind, document_id: DocumentId, version: Version
) -> dict[str, Any]:
    """Give out no more of it, at once. Holds that stand can still be captured."""
    return await _stop(request, response, kind, document_id, version, suspend)


@router.post(
    "/products/documents/{kind}/{document_id}/{version}/take-down",
    summary="Take down a listing 下架",
    responses=openapi_problems(*_REASON_PROBLEMS),
    openapi_extra=openapi_body(model=ListingReason),
)
async def take_down_document(
    request: Request, response: Response, kind: DocumentKind, document_id: DocumentId, version: Version
) -> dict[str, Any]:
    """Take it off the board for good, at once. Holds that stand can still be captured."""
    return await _stop(request, response, kind, document_id, version, take_down)


async def _stop(
    request: Request,
    response: Response,
    kind: DocumentKind,
    document_id: str,
    version: int,
    step: Callable[[Connection, DocumentKind, str, int, str, str, Desk], Awaitable[None]],
) -> dict[str, Any]:
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "products:write")
    content = await read_json(request)
    headers = await charge(request, caller)
    body = parsed(ListingReason, content)

    async def act(tx: Connection, desk: Desk) -> None:
        await step(tx, kind, document_id, version, operator_code(platform, caller), body.reason, desk)

    return await _done(platform, response, headers, language, kind, document_id, version, act)


async def _done(
    platform: Platform,
    response: Response,
    headers: dict[str, str],
    language: Language,
    kind: DocumentKind,
    document_id: str,
    version: int,
    act: Callable[[Connection, Desk], Awaitable[None]],
) -> dict[str, Any]:
    """Take the step in a transaction; where the document stands then."""
    platform.watch.require()
    settings = platform.settings
    desk = Desk(settings.programme, settings.allowed_statuses, platform.fresh, settings.clock_offset)
    async with platform.pool.acquire() as connection:
        try:
            async with connection.transaction():
                await act(connection, desk)
        except DocumentConflict as conflict:
            raise Problem("listing-document-conflict", digest=conflict.digest) from None
        except ListingNotFound:
            raise Problem("listing-document-not-found") from None
        except AlreadyApproved:
            raise Problem("listing-already-approved") from None
        except ListingStateWrong as wrong:
            text = STATE_TITLES[wrong.state]
            raise Problem(
                "listing-state-wrong", state=wrong.state, state_title_zh=text.zh, state_title_en=text.en
            ) from None
        except ListingRefused as refused:
            zh, en = ("；".join(one.zh for one in refused.reasons), "; ".join(one.en for one in refused.reasons))
            codes = {"reasons": [reason.code for reason in refused.reasons]}
            raise Problem("listing-refused", why_zh=zh, why_en=en, members=codes) from None
        await platform.offers.refresh(connection)
    response.headers.update(headers | localized(language))
    entry = platform.offers.entry(kind, document_id, version)
    assert entry is not None  # it was read a line ago
    return _entry_view(platform, entry, language)


def _entry_view(platform: Platform, entry: Entry, language: Language) -> dict[str, Any]:
    day, document = platform.today(), entry.document
    view = offer_view if isinstance(document, Offer) else product_view
    return {
        "kind": document.kind,
        "approvals": entry.approvals,
        "state_title": title(STATE_TITLES, entry.state, language),
    } | view(platform.offers, entry, day, language)
