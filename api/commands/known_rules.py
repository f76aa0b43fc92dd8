"""The rules of this machine, with what is approved as far as a database can be asked."""

from dataclasses import dataclass

import asyncpg

from api.supervisor import find_platform
from service.activities.rules import RuleBook, read_rulebook
from service.approvals import Approvals
from service.database import FAULTS, SchemaOutdated, require_schema
from service.migrations import expected_version
from service.settings import Settings

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
