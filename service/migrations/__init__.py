"""Bring a database to this version's schema, and say whether it is there."""

import warnings
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.exc import SAWarning


class RolesMissing(Exception):
    """The server lacks roles that the operator makes; the message has the statements."""


class DataInTheClear(Exception):
    """The database holds what this version keeps sealed alone; the message says what to do."""


def migrate(owner_url: str) -> None:
    """Apply what is missing, as the owner role. Safe to run by two processes at once."""
    command.upgrade(_config(owner_url), "head")


def differences(owner_url: str) -> None:
    """Raise if the tables described in code are not those in the database (used by tests)."""
    with warnings.catch_warnings():
        # SQLAlchemy reflects that a constraint is NOT VALID, and then does not know its own word for it.
        warnings.filterwarnings("ignore", "Can't validate argument 'dialect_options'", SAWarning)
        command.check(_config(owner_url))


def expected_version() -> str:
    """The newest migration this code knows."""
    head = ScriptDirectory.from_config(_config("")).get_current_head()
    assert head is not None  # the migrations ship with the package
    return head


def _config(owner_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["database_url"] = owner_url
    return config
