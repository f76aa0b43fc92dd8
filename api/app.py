"""`create_app(settings)`: the only place where the parts of an API process are put together."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from api import log_files
from api.auth import build_authenticator
from api.dependencies import BODY_MODELS
from api.entitlements import open_entitlement_key
from api.hardening.guard import HEAD_PROBLEMS, GuardMiddleware
from api.hardening.headers import policy_of_page
from api.oauth.citizens import build_citizens
from api.oauth.opening import open_access
from api.observability import ObservabilityMiddleware, configure_logging, render_metrics
from api.platform import Platform
from api.problems import Problem, install_problem_handlers, openapi_problems
from api.rate_limit import build_rate_limiter, keep_limits_fresh
from api.v1 import (
    activities,
    approvals,
    audit,
    bank_redemptions,
    bank_requests,
    bank_sandbox,
    banks,
    clients,
    disputes,
    events,
    factor_sets,
    guardians,
    health,
    liability,
    limits,
    links,
    log,
    manifests,
    me,
    methodologies,
    oauth,
    offers,
    participants,
    points,
    pools,
    problem_pages,
    products,
    quantify,
    receipts,
    redemptions,
    registers,
    retractions,
    reviews,
    rights,
    settlements,
    source_keys,
    source_signing,
    sources,
    statements,
    waiting,
    waivers,
    webhooks,
)
from ledger.errors import TransferNotFound
from service.activities.rules import load_rulebook
from service.approvals import Approvals, keep_fresh
from service.banks.calls import keep_calls, keep_nonces_swept
from service.banks.registry import BankKeyConflict, BankNotFound
from service.banks.requests import ApprovalEnded, ApprovalNotFound
from service.clients.registry import ClientConflict, ClientKeyConflict, ClientNotFound
from service.clients.standing import keep_access_swept, keep_standing_fresh
from service.clock import Fresh, system_clock
from service.database import LOST, open_pool, require_schema
from service.gathering import Gatherer
from service.keyring import load_keyring
from service.keyring_check import adopt_keyring
from service.linking.asking import LinkRequestEnded, LinkRequestNotFound
from service.linking.consents import ConsentNotFound, TermsWithdrawn
from service.linking.sweeping import keep_links_swept
from service.linking.texts import load_texts
from service.log.guard import Guard
from service.log.refusals import REFUSALS
from service.log.watch import PostingSuspended, Watch, keep_watching
from service.manifests import DayNotClosable, ManifestConflict, ManifestOutOfSequence, SourceKeyConflict
from service.migrations import expected_version
from service.participants import LinkNotFound, ParticipantConflict, ParticipantNotFound, ProgrammeMismatch
from service.poster import DatabaseAway, Poster, QueueFull
from service.products.catalogue import Offers, keep_offers_fresh
from service.reading import BalanceReader
from service.redemption.placing import ConsentTextDiffers
from service.redemption.pools import BudgetSpent, ChangeMixed, KeyTaken, PoolConflict, PoolNotFound
from service.redemption.reading import owners_of
from service.redemption.sweeping import keep_sweeping
from service.redemption.waiting import Desk as WaitingDesk
from service.redemption.waiting import PoolNotShort, WishNotFound, WishTooLarge, keep_serving
from service.reports.compromise import KeyNotFound
from service.reports.keeping import ReportKeeper, VersionsChange, keep_source_nonces_swept
from service.retention import keep_retention, read_classes
from service.rights.closed import Closed, keep_closed_fresh
from service.rights.working import Eraser, keep_erasing
from service.settings import Settings
from service.settlement.disputes import DisputeExists, DisputeNotFound, NothingToDispute
from service.settlement.reconciling import BankNotClosed, DayClosed, DayMoved, StatementNotFound
from service.settlement.states import StepRefused
from service.signals.reviews import ReviewEnded, ReviewNotFound
from service.vault import Vault, VaultError
from service.vault.refreshing import adopt_vault, keep_vault_fresh

READ_CONNECTIONS = 8  # beside the poster's lanes; reads are short and gathered, more would only crowd the server

_DESCRIPTION = """碳普惠积分平台：低碳行为计量为减排量与碳积分，逐条记入只增账本，人人可核。
 A carbon-inclusion points platform: low-carbon activities become reductions and points in an append-only ledger that
anyone can check. Errors are problem documents (RFC 9457) in Chinese or English by Accept-Language; every type is
described at /v1/problems."""

_AWAY = {"Retry-After": "2"}

ERRORS: dict[type[Exception], Callable[[Any], Problem]] = {
    TransferNotFound: lambda _: Problem("transfer-not-found"),
    LinkNotFound: lambda _: Problem("link-not-found"),
    ParticipantNotFound: lambda _: Problem("participant-not-found"),
    ProgrammeMismatch: lambda _: Problem("programme-mismatch"),
    ParticipantConflict: lambda _: Problem("participant-conflict"),
    SourceKeyConflict: lambda _: Problem("source-key-conflict"),
    KeyNotFound: lambda _: Problem("source-key-not-found"),
    VersionsChange: lambda _: Problem("temporarily-unavailable", headers=_AWAY),
    ApprovalNotFound: lambda _: Problem("approval-not-found"),
    ApprovalEnded: lambda error: Problem("approval-ended", state=error.state),
    BankNotFound: lambda _: Problem("bank-not-found"),
    BankKeyConflict: lambda _: Problem("bank-key-conflict"),
    ClientNotFound: lambda _: Problem("client-not-found"),
    ClientConflict: lambda _: Problem("client-conflict"),
    ClientKeyConflict: lambda _: Problem("client-key-conflict"),
    DayNotClosable: manifests.not_closable,
    ManifestConflict: lambda conflict: Problem("manifest-conflict", digest=conflict.digest),
    ManifestOutOfSequence: lambda error: Problem("manifest-out-of-sequence", expected=error.expected),
    StatementNotFound: lambda error: Problem("statement-not-found", day=error.day.isoformat()),
    DayClosed: lambda error: Problem("day-closed", day=error.day.isoformat()),
    DayMoved: lambda error: Problem("day-moved", statement=error.statement, file=error.file or "—"),
    BankNotClosed: lambda _: Problem("bank-not-closed"),
    DisputeNotFound: lambda _: Problem("dispute-not-found"),
    NothingToDispute: lambda _: Problem("nothing-to-dispute"),
    DisputeExists: lambda error: Problem("dispute-exists", dispute_id=str(error.dispute_id)),
    ReviewNotFound: lambda _: Problem("review-not-found"),
    ReviewEnded: lambda error: Problem("review-ended", state=error.state),
    StepRefused: lambda error: Problem("dispute-step-refused", state=error.state, step=error.step),
    ConsentTextDiffers: lambda _: Problem("consent-not-valid"),
    LinkRequestNotFound: lambda _: Problem("link-request-not-found"),
    LinkRequestEnded: lambda error: Problem("link-request-ended", state=error.state),
    ConsentNotFound: lambda _: Problem("consent-not-found"),
    TermsWithdrawn: lambda _: Problem("terms-withdrawn"),
    PoolNotFound: lambda _: Problem("pool-not-found"),
    PoolConflict: lambda _: Problem("pool-conflict"),
    PoolNotShort: lambda _: Problem("pool-not-short"),
    WishTooLarge: lambda error: Problem("wish-too-large", reason=error.reason),
    WishNotFound: lambda _: Problem("wish-not-found"),
    KeyTaken: lambda _: Problem("idempotency-conflict"),
    ChangeMixed: lambda _: Problem("pool-change-mixed"),
    BudgetSpent: lambda error: Problem("pool-budget-spent", points=str(error.points), fen=str(error.fen)),
    **rights.ERRORS,
    QueueFull: lambda _: Problem("overloaded", headers={"Retry-After": "1"}),
    PostingSuspended: lambda error: _suspended(error.code),
    DatabaseAway: lambda _: Problem("temporarily-unavailable", headers=_AWAY),
    VaultError: lambda _: Problem("temporarily-unavailable", headers=_AWAY),
    # Reads do not wait for a lost database: whoever reads may simply ask again.
    **dict.fromkeys(LOST, lambda _: Problem("temporarily-unavailable", headers=_AWAY)),
}


def _suspended(code: str) -> Problem:
    why = REFUSALS.get(code)
    words: dict[str, Any] = (
        {} if why is None else {"why_zh": why.zh, "why_en": why.en, "do_zh": why.remedy_zh, "do_en": why.remedy_en}
    )
    return Problem("posting-suspended", headers={"Retry-After": "30"}, reason=code, **words)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application; without settings, as the environment says."""
    settings = settings or Settings()
    configure_logging(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _platform(settings) as platform:
            app.state.platform = platform
            yield

    app = FastAPI(
        title="Tanpuhui 碳普惠",
        version="1",
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.state.stopping = threading.Event()  # answers that have no end look at it
    modules = (
        points,
        retractions,
        settlements,
        participants,
        sources,
        source_keys,
        source_signing,
        registers,
        waivers,
        manifests,
        methodologies,
        factor_sets,
        quantify,
        receipts,
        audit,
        redemptions,
        waiting,
        bank_redemptions,
        pools,
        banks,
        clients,
        oauth,
        bank_requests,
        approvals,
        bank_sandbox,
        statements,
        disputes,
        reviews,
        liability,
        limits,
        links,
        me,
        log,
        events,
        webhooks,
        rights,
        guardians,
        products,
        offers,
        problem_pages,
        health,
    )
    for router in (
        activities.router,
        points.busy,
        redemptions.busy,
        bank_redemptions.busy,
        *(module.router for module in modules),
    ):  # the busiest are found first
        app.include_router(router, prefix="/v1")
    app.include_router(log_files.router)
    app.include_router(oauth.well_known)
    app.add_route("/metrics", _metrics, include_in_schema=False)
    app.add_route("/docs", _docs, include_in_schema=False)
    app.mount("/docs/assets", StaticFiles(packages=[("fastapi_swagger", "resources")]))
    install_problem_handlers(app, settings.problem_base, ERRORS)
    app.add_middleware(GuardMiddleware, settings=settings)
    app.add_middleware(ObservabilityMiddleware, problem_base=settings.problem_base, log_every=settings.log_every)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # how FastAPI says to replace it
    return app


@asynccontextmanager
async def _platform(settings: Settings) -> AsyncIterator[Platform]:
    """Everything a process holds, opened in order and closed in reverse: what waits in the poster is posted before the
    pool closes."""
    if settings.database_url is None:
        raise RuntimeError(
            "TANPUHUI_DATABASE_URL is not set: start the platform with `tanpuhui serve`, "
            "or name a PostgreSQL of your own"
        )
    keyring = load_keyring(settings.keyring_file)
    vault = Vault(settings.vault_key_file)
    classes = read_classes(settings.retention_file)
    access = open_access(settings)
    open_entitlement_key(settings)  # one that cannot be used stops the start, not the first redemption
    async with AsyncExitStack() as stack:
        lanes = settings.poster_lanes
        pool = await stack.enter_async_context(
            await open_pool(settings.database_url, name="tanpuhui api", size=lanes + READ_CONNECTIONS)
        )
        async with pool.acquire() as connection:
            await require_schema(connection, expected_version())
            await adopt_keyring(connection, keyring)
            await adopt_vault(connection, vault)
            watch = Watch(Guard(settings.guard_file), settings.log_dir)
            await watch.refresh(connection)
            approvals = Approvals(settings.approvers_file, settings.programme)
            await approvals.refresh(connection)
            board = Offers()
            await board.refresh(connection)
            rules = await load_rulebook(
                connection,
                settings.allowed_statuses,
                rules_dir=settings.rules_dir,
                approvals=approvals,
                require_approvals=settings.require_approvals,
            )
        stack.push_async_callback(_cancelled, asyncio.create_task(keep_fresh(pool, approvals), name="approvals"))
        stack.push_async_callback(_cancelled, asyncio.create_task(keep_watching(pool, watch), name="log watch"))
        stack.push_async_callback(_cancelled, asyncio.create_task(keep_nonces_swept(pool), name="nonces"))
        swept = keep_source_nonces_swept(pool)
        stack.push_async_callback(_cancelled, asyncio.create_task(swept, name="nonces of sources"))
        stack.push_async_callback(_cancelled, asyncio.create_task(keep_offers_fresh(pool, board), name="board"))
        stack.push_async_callback(_cancelled, asyncio.create_task(keep_vault_fresh(pool, vault), name="vault"))
        retaining = keep_retention(pool, classes, Fresh(system_clock(settings.clock_offset)))
        stack.push_async_callback(_cancelled, asyncio.create_task(retaining, name="retention"))
        stack.push_async_callback(_cancelled, asyncio.create_task(keep_links_swept(pool), name="links"))
        fresh = Fresh(system_clock(settings.clock_offset))
        limiter = build_rate_limiter(settings)
        async with pool.acquire() as connection:
            await limiter.book.refresh(connection)
        limits_fresh = keep_limits_fresh(pool, limiter.book)
        stack.push_async_callback(_cancelled, asyncio.create_task(limits_fresh, name="limits"))
        await limiter.start()
        stack.push_async_callback(limiter.close)
        async with pool.acquire() as connection:
            await access.standing.refresh(connection)
        standing_fresh = keep_standing_fresh(pool, access.standing)
        stack.push_async_callback(_cancelled, asyncio.create_task(standing_fresh, name="revocations"))
        stack.push_async_callback(_cancelled, asyncio.create_task(keep_access_swept(pool), name="assertions"))
        await access.possession.memory.start()
        stack.push_async_callback(access.possession.memory.close)
        authenticator = build_authenticator(settings, access.own, access.possession)
        stack.push_async_callback(authenticator.close)
        citizens = build_citizens(settings)
        if citizens is not None:
            stack.push_async_callback(citizens.close)
        poster = Poster(
            pool,
            rules,
            vault,
            fresh,
            clock_offset=settings.clock_offset,
            lanes=lanes,
            queue_items=settings.poster_queue_items,
            may_post=watch.require,
        )
        stack.push_async_callback(poster.stop)
        sweeping = keep_sweeping(pool, poster, fresh, settings.clock_offset)
        stack.push_async_callback(_cancelled, asyncio.create_task(sweeping, name="dead holds"))
        closed = Closed()
        async with pool.acquire() as connection:
            await closed.refresh(connection)
        closed_fresh = keep_closed_fresh(pool, closed)
        stack.push_async_callback(_cancelled, asyncio.create_task(closed_fresh, name="closed accounts"))
        eraser = Eraser(pool, poster, keyring, fresh)
        stack.push_async_callback(_cancelled, asyncio.create_task(keep_erasing(eraser), name="erasures"))
        waiting_desk = WaitingDesk(pool, poster, board, fresh)
        stack.push_async_callback(_cancelled, asyncio.create_task(keep_serving(waiting_desk), name="waiting"))
        yield Platform(
            settings=settings,
            pool=pool,
            poster=poster,
            rules=rules,
            keyring=keyring,
            vault=vault,
            closed=closed,
            eraser=eraser,
            fresh=fresh,
            authenticator=authenticator,
            token_keys=access.keys,
            standing=access.standing,
            limiter=limiter,
            balances=BalanceReader(pool, fresh.clock),
            watch=watch,
            calls=Gatherer(pool, partial(keep_calls, offset=settings.clock_offset)),
            reports=Gatherer(pool, ReportKeeper(vault, settings.clock_offset).keep),
            owners=Gatherer(pool, owners_of),
            texts=load_texts(settings.consent_texts),
            citizens=citizens,
            offers=board,
        )


async def _cancelled(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _docs(_: Request) -> Response:
    """The documentation's page; its scripts come from this server, so it opens where the internet does not reach."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="碳普惠 Tanpuhui API",
        swagger_js_url="/docs/assets/swagger-ui-bundle.js",
        swagger_css_url="/docs/assets/swagger-ui.css",
        swagger_favicon_url="/docs/assets/favicon-32x32.png",
        swagger_ui_parameters={"persistAuthorization": True, "displayRequestDuration": True},
    )
    page.headers["Content-Security-Policy"] = policy_of_page(bytes(page.body))
    return page


async def _metrics(_: Request) -> Response:
    body, kind = render_metrics()
    return Response(body, 200, media_type=kind)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The document, with the bodies that routes read by themselves and the bearer token that every call but the public
    ones needs."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        _, bodies = models_json_schema(
            [(model, "validation") for model in BODY_MODELS.values()], ref_template="#/components/schemas/{model}"
        )
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update(bodies.get("$defs", {}))
        components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
        head = {str(status): answer for status, answer in openapi_problems(*HEAD_PROBLEMS).items()}
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"] |= head
                _document_malformed(operation["responses"])
                if "(unauthenticated)" in operation["responses"].get("401", {}).get("description", ""):
                    operation["security"] = [{"bearer": []}]
        app.openapi_schema = document
    return app.openapi_schema


def _document_malformed(responses: dict[str, Any]) -> None:
    """What the framework says of its own 422 is a form that nobody is sent: parameters that it refuses become a problem
    too."""
    if "HTTPValidationError" in str(responses.get("422")):
        responses["422"] = openapi_problems("malformed-request")[422]
