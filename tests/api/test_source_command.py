"""`tanpuhui source`, and what a provider's own commands sign: from a new key to a stolen one."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import httpx
import orjson
import pytest

from api.provider.signing import signing_with
from tests.api.reporters import open_reporter
from tests.api.test_bank_command import Shell, run
from tests.running import EVENT, Api, problem_of, ride, run_as_provider, served

pytestmark = pytest.mark.anyio


async def test_a_stolen_key_is_looked_at_and_then_revoked(api: Api) -> None:
    reporter = await open_reporter(api)
    since = api.platform.fresh.clock().replace(microsecond=0).isoformat()
    for _ in range(2):
        person = await api.person(reporter.source)
        assert (await reporter.call(ride(reporter.source, person.subject))).status_code == 201
    words = ("source", "key", "revoke", reporter.source, reporter.key.key_id, "--from", since)
    async with served(api) as url:
        shell = Shell(api, url)
        neither = await shell(*words)
        assert neither.exit_code == 1
        assert "--dry-run" in neither.stderr
        planned = await shell.told(*words, "--dry-run")
        assert (planned["ends"], planned["reversed"]["credits"], planned["left"]) == (None, 2, 0)
        told = await shell(*words, "--yes")
        assert told.exit_code == 0, told.output
        assert "taken back: 2 credits, 164,546 mg, 164 points" in told.stdout
        again = await shell.told(*words, "--yes")
        assert (again["reversed_before"], again["reversed"]["credits"]) == (2, 0)
        unknown = await shell(*words[:4], "no-such-key", *words[5:], "--yes")
        assert unknown.exit_code == 1
        assert "没有此密钥" in unknown.stderr


async def test_two_operators_revoke_a_key_and_one_goes_on(fresh_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api = fresh_api
    reporter = await open_reporter(api)
    person = await api.person(reporter.source)
    since = api.platform.fresh.clock().replace(microsecond=0).isoformat()
    assert (await reporter.call(ride(reporter.source, person.subject))).status_code == 201
    monkeypatch.setattr(api.platform, "settings", api.platform.settings.model_copy(update={"two_person": True}))
    body = {"uri": reporter.source, "kid": reporter.key.key_id, "from": since}
    path, policy = "/v1/sources/keys/revocation", {"uri": reporter.source, "signing": "optional"}
    one, other = ({"Authorization": f"Bearer {api.issuer.issue('operator', name)}"} for name in ("op-1", "op-2"))
    lowered = await api.client.put("/v1/sources/policy", headers=one, json=policy)
    assert lowered.status_code == 202, lowered.text  # nobody alone lets a stolen token report
    looked = await api.client.post(path, headers=one, json=body | {"dry_run": True})
    assert looked.json()["reversed"]["credits"] == 1  # whoever only looks needs nobody
    proposed = await api.client.post(path, headers=one, json=body)
    assert proposed.status_code == 202, proposed.text
    assert (await api.balance(person.participant_id))["points"]["available"] == 82
    approves = {"Approves": proposed.json()["proposal_id"]}
    problem_of(await api.client.post(path, headers=one | approves, json=body), "proposal-refused")
    done = await api.client.post(path, headers=other | approves, json=body)
    assert done.json()["reversed"]["credits"] == 1, done.text
    again = await api.client.post(path, headers=one, json=body)  # what was decided goes on, whoever asks
    assert (again.status_code, again.json()["reversed_before"]) == (200, 1)


async def test_a_providers_commands_sign_what_they_post(api: Api, tmp_path: Path) -> None:
    source = await api.source()
    made = await asyncio.to_thread(run, "manifest", "key", str(tmp_path / "key.jwk"), "--kid", "k1")
    public = json.loads(made.stdout.splitlines()[-1])
    (tmp_path / "public.jwk").write_text(json.dumps(public), "utf-8")
    async with served(api) as url:
        shell = Shell(api, url)
        words = ("source", "key", "add", source, str(tmp_path / "key.jwk"), "--valid-from", "2026-01-01T00:00:00Z")
        assert (await shell.told(*words))["key"] == public  # without its private half
        assert (await shell.told("source", "policy", source, "required"))["signing"] == "required"
    person = await api.person(source)
    event = ride(source, person.subject)
    file = tmp_path / "ids.csv"
    file.write_text(f"id\n{event['id']}\n", "utf-8")
    unsigned = await run_as_provider(api, source, tmp_path, "retract", str(file))
    assert unsigned.exit_code == 1
    signed = await run_as_provider(api, source, tmp_path, "retract", str(file), "--key", str(tmp_path / "key.jwk"))
    assert "activity-not-found" in signed.stdout + signed.stderr
    assert "report-signature-refused" not in signed.stdout + signed.stderr
    headers = api.bearer("provider", source=source) | {"Content-Type": EVENT}
    async with served(api) as url, httpx.AsyncClient(auth=signing_with(tmp_path / "key.jwk")) as client:
        answer = await client.post(f"{url}/v1/activities", headers=headers, content=orjson.dumps(event))
    assert answer.status_code == 201, answer.text


async def test_the_snippet_of_the_document_reports_a_ride(api: Api, tmp_path: Path) -> None:
    reporter = await open_reporter(api)
    person = await api.person(reporter.source)
    private = tmp_path / "key.jwk"
    await asyncio.to_thread(run, "manifest", "key", str(private), "--kid", "from-the-page")
    jwk = {name: value for name, value in json.loads(private.read_bytes()).items() if name != "d"}
    body = {"uri": reporter.source, "key": jwk, "valid_from": "2026-01-01T00:00:00Z"}
    answer = await api.client.put("/v1/sources/keys", headers=api.bearer("operator"), json=body)
    assert answer.status_code == 200, answer.text
    text = (Path(__file__).parents[2] / "docs" / "signed-reports.md").read_text("utf-8")
    program = text.partition("```python\n")[2].partition("```")[0]
    async with served(api) as url:
        given = {"URL": url, "TOKEN": reporter.bearer["Authorization"].removeprefix("Bearer ")}
        given |= {"SOURCE": reporter.source, "KEY_FILE": str(private)}
        done = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, person.subject, env=given, stdout=PIPE, stderr=PIPE
        )
        told, errors = await done.communicate()
    assert done.returncode == 0, errors.decode()
    assert json.loads(told)["outcome"] == "credited"
