"""`tanpuhui product`, from a draft to the board."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from api.cli import app
from service.products.shipped import DIRECTORY, load_demonstration
from tests.running import Api, served
from tests.service.products.documents import (
    BANK,
    offer_fields,
    open_bank_and_pool,
    product_fields,
    written,
)

pytestmark = pytest.mark.anyio


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["product", *words])


async def ask(api: Api, url: str, *words: str, who: str = "anna") -> Result:
    token = api.issuer.issue("operator", who)
    return await asyncio.to_thread(run, *words, "--url", url, "--token", token, "--json")


def told(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    last: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return last


async def test_a_draft_is_checked_submitted_approved_stopped_and_shown(api: Api, tmp_path: Path) -> None:
    async with api.platform.pool.acquire() as connection:
        await open_bank_and_pool(connection)
    fields = product_fields()
    on_it = offer_fields(product=fields["id"])
    file, offer = tmp_path / "product.yaml", tmp_path / "offer.yaml"
    file.write_bytes(written(fields))
    offer.write_bytes(written(on_it))
    assert told(run("lint", str(file), "--json"))["ok"]
    async with served(api) as url:
        assert told(await ask(api, url, "submit", str(file)))["state"] == "submitted"
        assert told(await ask(api, url, "approve", fields["id"]))["state"] == "submitted"
        again = await ask(api, url, "approve", fields["id"])
        assert again.exit_code == 1
        assert "The same person has approved it" in again.output
        assert told(await ask(api, url, "approve", fields["id"], who="bo"))["state"] == "listed"
        await ask(api, url, "submit", str(offer))
        for who in ("anna", "bo"):
            done = told(await ask(api, url, "approve", on_it["id"], "--kind", "offer", who=who))
        assert done["on_board"]
        assert told(await ask(api, url, "suspend", fields["id"], "--reason", "complaints"))["state"] == "suspended"
        shown = told(await asyncio.to_thread(run, "board", "--url", url, "--json"))
        (of,) = [one for one in shown["products"] if one["id"] == fields["id"]]
        assert (of["bank"], of["state"], of["on_board"]) == (BANK, "suspended", False)
        assert told(await ask(api, url, "resume", fields["id"]))["state"] == "listed"
        down = ("take-down", fields["id"], "--reason", "misleading")
        assert told(await ask(api, url, *down))["state"] == "taken_down"
        refused = await ask(api, url, "resume", fields["id"])
        assert (refused.exit_code, "Its state does not allow this" in refused.output) == (1, True)
        unknown = await ask(api, url, "suspend", fields["id"], "--reason", "weather")
        assert (unknown.exit_code, "the reason is one of" in unknown.output) == (1, True)


def test_lint_names_the_line_or_what_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "draft.yaml"
    file.write_bytes(b"kind: product\nkind: product\n")
    broken = run("lint", str(file), "--json")
    assert broken.exit_code == 1
    assert json.loads(broken.stdout.splitlines()[-1])["line"] == 2
    file.write_bytes(written(product_fields(label=None)))
    missing = run("lint", str(file), "--json")
    assert missing.exit_code == 1
    assert json.loads(missing.stdout.splitlines()[-1])["reasons"] == ["no-label"]


@pytest.mark.parametrize("file", sorted(DIRECTORY.glob("*.yaml")), ids=lambda file: file.stem)
def test_what_ships_is_good(file: Path) -> None:
    assert told(run("lint", str(file), "--json"))["id"] == file.stem


def test_the_demonstration_comes_in_the_order_it_can_be_listed() -> None:
    assert [document.kind for document in load_demonstration()] == ["product"] * 3 + ["offer"] * 3
