"""A day ends, its balances are sealed, and whoever has one proves it with a file of their own."""

import asyncio
import json
import subprocess
import sys
import time

import httpx
import pytest

from api.auth import DevelopmentIssuer
from tests.running import BATCH, ride
from tests.story.clients import ROOT, Providers, Served, environment, room

pytestmark = pytest.mark.anyio

DAY_S = 86_400
SEALED_WITHIN_S = 60.0


async def test_from_a_ride_to_a_balance_that_anybody_verifies() -> None:
    with room() as directory:
        data = directory / "data"
        with Served(data) as served:
            providers = Providers(served, seed=1)
            await providers.enrol()
            person = providers.people["rider 1"]
            token = DevelopmentIssuer(data).issue("provider", "story", source=providers.source)
            headers = {"Authorization": f"Bearer {token}", "Content-Type": BATCH}
            events = [ride(providers.source, "rider 1", f"event-{number}") for number in range(3)]
            async with httpx.AsyncClient(base_url=served.url, timeout=60) as client:
                answer = await client.post("/v1/activities", headers=headers, json=events)
            assert answer.json()["counts"]["credited"] == 3, answer.text

        with Served(data, clock_offset=str(DAY_S + 120)) as served:  # tomorrow
            file = directory / "balance.tlog-proof"
            fetch = ["receipt", "balance", person, "--out", str(file), "--url", served.url]
            give_up = time.monotonic() + SEALED_WITHIN_S
            while (done := _run(served, *fetch)).returncode:
                assert time.monotonic() < give_up, done.stderr
                await asyncio.sleep(1)
        # offline: the platform is stopped
        told = _run(served, "receipt", "verify", str(file), "--json")
        assert told.returncode == 0, told.stderr
        proved = json.loads(told.stdout.splitlines()[-1])
        assert proved["balance"]["participant"] == person
        assert proved["balance"]["counter"] == "3"
        assert proved["balance"]["balances"]["co2e_mg"]["available"] == str(3 * 82273)
        file.write_text(file.read_text("utf-8").replace("index ", "index 1"), "utf-8")
        assert _run(served, "receipt", "verify", str(file)).returncode == 1


def _run(served: Served, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "api.cli", *arguments],
        cwd=ROOT,
        env=environment(served.data_dir),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
