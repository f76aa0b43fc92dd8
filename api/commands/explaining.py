"""What a command ends with that is not a bug, said in a sentence. Loaded only when something ended a command."""

from typing import NoReturn

from sqlalchemy.exc import SQLAlchemyError

from api.commands.environment import fail
from api.oauth.bound import ClientKeyUnusable
from api.provider import ImportStopped
from api.supervisor import CannotStart
from service.activities.rules import RuleChanged, RulesInvalid
from service.approvals import ApproversInvalid
from service.banks.entitlements import EntitlementKeyUnusable
from service.clients.token_keys import TokenKeysUnusable
from service.database import FAULTS, SchemaOutdated
from service.embedded import EmbeddedServersError
from service.feeds import FeedError
from service.keyring import KeyringError
from service.log.keys import SigningKeyUnusable
from service.migrations import DataInTheClear, RolesMissing
from service.vault import VaultError

_CANNOT_GO_ON = (
    CannotStart,
    EmbeddedServersError,
    KeyringError,
    VaultError,
    SchemaOutdated,
    RuleChanged,
    RulesInvalid,
    ApproversInvalid,
    RolesMissing,
    DataInTheClear,
    SigningKeyUnusable,
    EntitlementKeyUnusable,
    TokenKeysUnusable,
    ClientKeyUnusable,
)
_UNUSABLE: tuple[type[Exception], ...] = (*FAULTS, SQLAlchemyError)


def explain(error: Exception) -> NoReturn:
    """End the command with the reason and status 1; a bug is raised again as it came."""
    if isinstance(error, ImportStopped | FeedError):
        fail(error.text.zh, error.text.en)
    if isinstance(error, _CANNOT_GO_ON):
        fail("无法继续，原因见下。", str(error))
    if isinstance(error, _UNUSABLE):
        fail("无法使用数据库或文件，原因见下。", f"a database or a file cannot be used: {error}")
    raise error
