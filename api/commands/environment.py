"""What a command begins with, and how it ends when it cannot go on: settings, the rules, tokens for development, a
reason in two languages."""

from dataclasses import dataclass
from typing import Annotated, NoReturn

import asyncpg
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from api.auth import DevelopmentIssuer
from api.supervisor import find_platform
from service.activities.rules import RuleBook, read_rulebook
from service.approvals import Approvals
from service.database import FAULTS, SchemaOutdated, require_schema
from service.migrations import expected_version
from service.settings import DEVELOPMENT_ISSUER, PREFIX, Settings, UnsafeSettings

Json = Annotated[
    bool, typer.Option("--json", help="最后一行输出一个 JSON 对象。 End with one JSON object on the last line.")
]


def fail(zh: str, en: str) -> NoReturn:
    """Say why on standard error, and end with status 1."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[red]{escape(zh)}[/red]\n{escape(en)}")
    raise typer.Exit(1)


def read_settings() -> Settings:
    """The settings of the environment; ends the command when they cannot be used."""
    try:
        return Settings()
    except UnsafeSettings as error:
        fail("生产模式不接受这些设置：", str(error))
    except ValidationError as error:
        faults = [
            f"{PREFIX}{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg']}"
            for fault in error.errors(include_input=False)
            if fault["type"] != "default_factory_not_called"  # follows from another fault
        ]
        fail(
            "设置有误；`tanpuhui settings` 列出全部设置。",
            "\n".join([*faults, "`tanpuhui settings` lists every setting."]),
        )


def development_issuer(settings: Settings) -> DevelopmentIssuer:
    """The issuer of tokens for development; ends the command where those are not accepted."""
    if settings.mode == "production" or settings.token_issuer != DEVELOPMENT_ISSUER:
        fail("生产模式不签发开发令牌。", "tokens for development are not for this platform: get one from your issuer.")
    return DevelopmentIssuer(settings.data_dir, audience=settings.token_audience)


_UNASKED: tuple[type[Exception], ...] = (*FAULTS, SchemaOutdated)


@dataclass(frozen=True, slots=True)
class KnownRules:
    """The documents of this machine, and the database that says what is approved.

    database   its URL, None when none was found
    fault      why its approvals are not known, None when they are
    """

    rules: RuleBook
    database: str | None
    fault: str | None


async def known_rules(settings: Settings) -> KnownRules:
    """The shipped documents and the deployment's, with what is approved where a database can be asked: the one of
    TANPUHUI_DATABASE_URL, or of the platform that runs from this data directory. Starts nothing."""
    approvals = Approvals(settings.approvers_file, settings.programme)
    rules = read_rulebook(settings, approvals)
    url = settings.database_url or getattr(find_platform(settings.data_dir), "auditor_url", None)
    if url is None:
        return KnownRules(rules, None, "no database: TANPUHUI_DATABASE_URL is not set, and no platform runs from here")
    try:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            await require_schema(connection, expected_version())
            await approvals.refresh(connection)
        finally:
            await connection.close()
    except _UNASKED as error:
        return KnownRules(rules, None, f"the database cannot be asked: {error or type(error).__name__}")
    return KnownRules(rules, url, None)
