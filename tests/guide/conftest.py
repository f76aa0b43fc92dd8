"""One platform for the snippets, over the tests' PostgreSQL and Valkey, on a port of this machine; and the same one a
day later, when the day can be closed."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from api.cli import app as cli
from tests.conftest import Database
from tests.guide.workshop import Workshop, tokens
from tests.running import Api, running_api, served

A_DAY_LATER_S = "90000"  # 25 hours: at any hour today is over then


@dataclass(frozen=True, slots=True)
class Platform:
    """Where the platform is reached, today and a day later, and what issues its tokens."""

    api: Api
    data_dir: Path
    url: str
    url_later: str

    def workshop(self, directory: Path, source: str) -> Workshop:
        """A copy of the snippets, and the variables of curl/sandbox.sh for a provider of this name."""
        variables = {
            "PLATFORM": self.url,
            "SOURCE": source,
            "READ_IN": "en",
            "OPERATOR_TOKEN": tokens(self.api.bearer("operator")),
            "PROVIDER_TOKEN": tokens(self.api.bearer("provider", source=source)),
            "TANPUHUI_DATA_DIR": str(self.data_dir),
        }
        return Workshop(directory, variables)

    async def register_key(self, workshop: Workshop) -> None:
        """What curl/register_key.sh does, without starting the command."""
        made = CliRunner().invoke(
            cli,
            ["manifest", "key", str(workshop.directory / "rides-1.jwk"), "--kid", "rides-1"],
            catch_exceptions=False,
        )
        body = {
            "uri": workshop.environment["SOURCE"],
            "valid_from": "2024-01-01T00:00:00+08:00",
            "key": json.loads(made.stdout),
        }
        answer = await self.api.client.put("/v1/sources/keys", headers=self.api.bearer("operator"), json=body)
        assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
async def platform(database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    data_dir = tmp_path_factory.mktemp("data")
    async with (
        running_api(database.app, database.redis, data_dir) as api,
        running_api(database.app, database.redis, data_dir, clock_offset=A_DAY_LATER_S) as later,
        served(api) as url,
        served(later) as url_later,
    ):
        yield Platform(api, data_dir, url, url_later)
