"""The token endpoint: who is given a token, what it is good for, how it ends; and every way to get one by fraud."""

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from api.auth import ROLE_SCOPES, DevelopmentIssuer
from api.oauth.client_authentication import ASSERTION_TYPE, LEEWAY_S, LONGEST_LIFE_S
from api.oauth.opening import open_access
from api.oauth.proving import client_assertion, dpop_proof, token_form
from api.signatures import SigningKey, public_jwk
from service.banks.entitlements import create_entitlement_key
from service.clients.registry import ClientKey, Registration, register_client, register_client_key
from service.clients.standing import sweep_access
from service.clients.token_keys import (
    TokenKeysUnusable,
    create_token_keys,
    read_token_keys,
    retire_token_key,
    rotate_token_key,
)
from service.jws import read_public_key
from service.keyring import create_private_file
from service.settings import Settings
from tests.api.bankers import new_key
from tests.api.oauth_client import TOKEN, Client, change, open_client, put_client, put_client_key
from tests.conftest import Database
from tests.running import BATCH, MASTERS, Api, problem_of, ride, running_api, served

pytestmark = pytest.mark.anyio

OWN = "/v1/sources/me"


@pytest.fixture(scope="module")
async def client(api: Api) -> Client:
    return await open_client(api)


@pytest.fixture(scope="module")
async def strict(database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """A platform that takes tokens of machines from nobody but whoever has their key."""
    folder = tmp_path_factory.mktemp("strict")
    async with running_api(database.app, database.redis, folder, require_sender_constrained=True) as running:
        yield running


def refused(answer: Any, error: str) -> str:
    """The description of an error of OAuth, which must be one of RFC 6749."""
    document = answer.json()
    assert document.keys() == {"error", "error_description"}, document
    assert document["error"] == error, document
    assert answer.status_code == (401 if error == "invalid_client" else 400)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"
    said: str = document["error_description"]
    assert said.isascii()
    assert not set('"\\') & set(said)
    return said


async def test_a_token_from_registration_to_a_credited_ride(api: Api) -> None:
    client = await open_client(api, p256=True)
    answer = await client.ask()
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    told = answer.json()
    assert (told["token_type"], told["expires_in"]) == ("DPoP", 600)
    assert set(told["scope"].split()) == ROLE_SCOPES["provider"]
    token = told["access_token"]
    header, claims = jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})
    keys = (await api.client.get("/v1/oauth/jwks")).json()["keys"]
    assert (header["typ"], header["alg"]) == ("at+jwt", "EdDSA")
    assert header["kid"] in {key["kid"] for key in keys}
    assert not any("d" in key for key in keys)
    assert (claims["client_id"], claims["sub"], claims["source"]) == (client.client_id, client.client_id, client.uri)
    assert claims["exp"] - claims["iat"] == 600
    person = await api.person(client.uri)
    event = ride(person.source, person.subject)
    headers = {"Content-Type": BATCH}
    posted = await client.call("POST", "/v1/activities", token, headers=headers, content=json.dumps([event]))
    assert posted.status_code == 200, posted.text
    assert posted.json()["counts"]["credited"] == 1


async def test_metadata_and_fewer_scopes(client: Client) -> None:
    metadata = (await client.api.client.get("/.well-known/oauth-authorization-server")).json()
    assert metadata["token_endpoint"] == client.issuer + TOKEN
    assert "client_credentials" in metadata["grant_types_supported"]
    assert metadata["token_endpoint_auth_methods_supported"][0] == "private_key_jwt"
    token = (await client.ask(scope="events:read")).json()["access_token"]
    assert (await client.call("GET", OWN, token)).status_code == 403
    for scope in ("balance:read", "activities:write balance:read", " "):
        refused(await client.ask(scope=scope), "invalid_scope")


async def test_a_stolen_token_is_worth_nothing(client: Client) -> None:
    api, token = client.api, await client.token()
    assert (await client.call("GET", OWN, token)).status_code == 200

    async def reason(authorization: str, **headers: str) -> str:
        answer = await api.client.get(OWN, headers={"Authorization": authorization} | headers)
        assert answer.headers["www-authenticate"].startswith("DPoP ")
        found: str = problem_of(answer, "unauthenticated")["reason"]
        return found

    assert await reason(f"Bearer {token}") == "token-bound"
    assert await reason(f"DPoP {token}") == "proof-missing"
    thief = Client(api, client.client_id, client.uri, new_key())
    assert await reason(f"DPoP {token}", **thief.proof("GET", OWN, access_token=token)) == "proof-other-key"
    assert await reason(f"DPoP {token}", **client.proof("GET", OWN)) == "proof-token"
    assert await reason(f"DPoP {token}", **client.proof("POST", OWN, access_token=token)) == "proof-method"
    seen = client.proof("GET", OWN, access_token=token)
    answer = await api.client.get(OWN, headers={"Authorization": f"DPoP {token}"} | seen)
    assert answer.status_code == 200
    assert await reason(f"DPoP {token}", **seen) == "proof-replayed"
    unbound = (await client.ask(bound=False)).json()
    assert unbound["token_type"] == "Bearer"
    own = {"Authorization": f"Bearer {unbound['access_token']}"}
    assert (await api.client.get(OWN, headers=own)).status_code == 200  # a platform for development lets it pass
    proof = client.proof("GET", OWN, access_token=unbound["access_token"])
    assert await reason(f"DPoP {unbound['access_token']}", **proof) == "token-unbound"


async def test_where_tokens_have_to_be_bound(strict: Api) -> None:
    client = await open_client(strict)
    said = refused(await client.ask(bound=False), "invalid_dpop_proof")
    assert "required" in said
    assert (await client.call("GET", OWN, await client.token())).status_code == 200
    bearer = strict.bearer("provider", source=client.uri)  # of the other issuer
    answer = await strict.client.get(OWN, headers=bearer)
    assert problem_of(answer, "unauthenticated")["reason"] == "token-unbound"
    assert (await strict.client.get("/v1/clients", headers=strict.bearer("operator"))).status_code == 200


async def test_assertions_that_are_none(client: Client) -> None:
    api, key = client.api, client.key

    async def ask(assertion: str, **form: str) -> Any:
        body = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION_TYPE} | form
        return await api.client.post(TOKEN, data=body | {"client_assertion": assertion})

    now = int(time.time())
    good = client_assertion(key, client.client_id, client.issuer)
    assert (await ask(good)).status_code == 200
    assert "used before" in refused(await ask(good), "invalid_client")
    for claims in (
        {"exp": now - LEEWAY_S - 1},
        {"exp": now + LONGEST_LIFE_S + LEEWAY_S + 5},
        {"exp": None},
        {"exp": float(now + 60)},
        {"iat": now + LEEWAY_S + 5},
        {"nbf": now + LEEWAY_S + 5},
        {"aud": "https://elsewhere.example"},
        {"aud": [client.issuer, "https://elsewhere.example"]},
        {"aud": None},
        {"sub": "somebody-else"},
        {"iss": "somebody-else"},
        {"iss": "no\0one", "sub": "no\0one"},
        {"iss": "\ud800", "sub": "\ud800"},
        {"jti": None},
        {"jti": "short"},
    ):
        refused(await ask(client_assertion(key, client.client_id, client.issuer, **claims)), "invalid_client")
    for audience in (client.issuer + TOKEN, [client.issuer]):
        assert (await ask(client_assertion(key, client.client_id, client.issuer, aud=audience))).status_code == 200
    claims = jwt.decode(good, options={"verify_signature": False}) | {"jti": "another-one"}
    public = key.private.public_key().public_bytes_raw()  # type: ignore[union-attr]  # of Ed25519, as it was made
    forged = (
        jwt.encode(claims, "", "none", headers={"kid": key.key_id}) + "AAAA",
        jwt.encode(claims, public, "HS256", headers={"kid": key.key_id}),
        jwt.encode(claims, new_key().private, "EdDSA", headers={"kid": key.key_id}),
        jwt.encode(claims, key.private, "EdDSA", headers={"kid": "unknown"}),
        jwt.encode(claims, key.private, "EdDSA"),
        jwt.encode(claims, key.private, "EdDSA", headers={"kid": key.key_id, "crit": ["b64"]}),
        jwt.encode(claims, key.private, "EdDSA", headers={"kid": key.key_id, "jku": "https://evil.example/jwks"}),
        jwt.encode(claims, key.private, "EdDSA", headers={"kid": key.key_id, "typ": "dpop+jwt"}),
        "",
        "a.b.c",
    )
    for text in forged:
        refused(await ask(text), "invalid_client")


async def test_nobody_speaks_for_another_client(client: Client) -> None:
    other = await open_client(client.api)
    mixed = SigningKey(other.key.key_id, client.key.private)
    for key in (client.key, mixed):  # under its own kid, and under that of the other
        form = token_form(key, other.client_id, client.issuer)
        said = refused(await client.api.client.post(TOKEN, data=form), "invalid_client")
        form = token_form(key, "nobody-here", client.issuer)
        assert refused(await client.api.client.post(TOKEN, data=form), "invalid_client") == said  # nor learns who is
    form = token_form(client.key, client.client_id, client.issuer, client_id=other.client_id)
    refused(await client.api.client.post(TOKEN, data=form), "invalid_client")
    taken = await put_client_key(client.api, other.client_id, client.key)
    problem_of(taken, "client-key-conflict")  # one key proves one client


async def test_a_form_is_read_in_one_way(client: Client) -> None:
    post = client.api.client.post
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for answer, error in (
        (await post(TOKEN, json={}), "invalid_request"),
        (await post(TOKEN, data={}), "invalid_request"),
        (await post(TOKEN, headers=form, content=b""), "invalid_request"),
        (await post(TOKEN, headers=form, content=b"grant_type=a&grant_type=b"), "invalid_request"),
        (await post(TOKEN, headers=form, content=b"grant_type=%ff&%"), "invalid_request"),
        (await post(TOKEN, headers=form, content=b"grant_type=\xff"), "invalid_request"),
        (await post(f"{TOKEN}?grant_type=x", data={"grant_type": "client_credentials"}), "invalid_request"),
        (await post(TOKEN, data={"grant_type": "password"}), "unsupported_grant_type"),
        (await post(TOKEN, data={"grant_type": "client_credentials"}), "invalid_client"),
        (await post(TOKEN, data={"grant_type": "client_credentials", "client_id": client.client_id}), "invalid_client"),
        (await post(TOKEN, data={"grant_type": "client_credentials", "client_id": "a\0b"}), "invalid_client"),
        (await post(TOKEN, data={"grant_type": "client_credentials", "client_secret": "x"}), "invalid_client"),
        (await post(TOKEN, data={"grant_type": "client_credentials"}, auth=("a", "b")), "invalid_client"),
        (await client.ask(client_assertion_type="x"), "invalid_client"),
    ):
        refused(answer, error)
    large = await post(TOKEN, headers=form, content=b"a=" + b"x" * 40_000)
    problem_of(large, "payload-too-large")
    proof = {"DPoP": dpop_proof(client.key, "GET", client.issuer + TOKEN)}
    body = token_form(client.key, client.client_id, client.issuer)
    refused(await post(TOKEN, data=body, headers=proof), "invalid_dpop_proof")


async def test_an_app_of_people_has_no_key_and_no_token_of_its_own(api: Api) -> None:
    assert (await put_client(api, "an-app-of-people", "participant")).status_code == 200
    problem_of(await put_client_key(api, "an-app-of-people", new_key()), "client-key-conflict")
    form = {"grant_type": "client_credentials", "client_id": "an-app-of-people"}
    refused(await api.client.post(TOKEN, data=form), "unauthorized_client")


async def test_a_registration_is_checked(api: Api) -> None:
    for changes in (
        {"role": "operator"},
        {"role": "provider"},
        {"role": "auditor", "uri": "urn:tests:x"},
        {"role": "auditor", "scopes": ["clients:write"]},
        {"role": "auditor", "scopes": []},
        {"client_id": "No", "role": "auditor"},
        {"role": "auditor", "redirect_uris": ["http://evil.example/x"]},
        {"role": "auditor", "redirect_uris": ["https://good.example@evil.example/x"]},
        {"role": "auditor", "redirect_uris": ["https://good.example/x#y"]},
    ):
        answer = await put_client(api, **{"client_id": "checked-one"} | changes)
        problem_of(answer, "malformed-request")
    assert (await put_client(api, "checked-one", "auditor", scopes=["audit:read"])).json()["scopes"] == ["audit:read"]
    assert (await put_client(api, "checked-one", "auditor", title_en="Other")).json()["title_en"] == "Other"
    problem_of(await put_client(api, "checked-one", "assurer"), "client-conflict")
    for path in ("suspend", "resume", "revoke-tokens"):
        problem_of(await change(api, f"/v1/clients/{path}", {"client_id": "no-such-one"}), "client-not-found")
    listed = await api.client.get("/v1/clients?client_id=checked-one", headers=api.bearer("operator"))
    assert [each["client_id"] for each in listed.json()["clients"]] == ["checked-one"]


async def test_keys_follow_one_another_without_a_gap(client: Client) -> None:
    second = new_key("second", p256=True)
    ends = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    fresh = Client(client.api, client.client_id, client.uri, second)
    refused(await fresh.ask(), "invalid_client")
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert (await put_client_key(client.api, client.client_id, new_key("later"), valid_from=later)).status_code == 200
    assert (await put_client_key(client.api, client.client_id, second)).status_code == 200
    assert [(await each.ask()).status_code for each in (client, fresh)] == [200, 200]
    old = await open_client(client.api)
    assert (await put_client_key(client.api, old.client_id, old.key, valid_to=ends)).status_code == 200
    refused(await old.ask(), "invalid_client")
    problem_of(await put_client_key(client.api, old.client_id, old.key), "client-key-conflict")  # ended for good


async def eventually_refused(client: Client, api: Api, token: str) -> float:
    """Seconds until a token is refused by a process."""
    began = time.monotonic()
    mine = Client(api, client.client_id, client.uri, client.key)
    while time.monotonic() - began < 3:
        answer = await mine.call("GET", OWN, token)
        if answer.status_code == 401:
            assert answer.json()["reason"] == "revoked"
            return time.monotonic() - began
        await asyncio.sleep(0.02)
    raise AssertionError("it is still taken")


async def test_a_revocation_is_seen_by_every_process_within_a_second(
    api: Api, database: Database, tmp_path: Path
) -> None:
    client = await open_client(api)
    keys = api.platform.settings.token_key_file
    async with running_api(database.app, database.redis, tmp_path, token_key_file=keys) as other:
        one, kept = await client.token(), await client.token()
        elsewhere = Client(other, client.client_id, client.uri, client.key)
        for token in (one, kept):
            assert (await elsewhere.call("GET", OWN, token)).status_code == 200  # remembered there
        form = token_form(client.key, client.client_id, client.issuer, token=one)
        assert (await api.client.post("/v1/oauth/revoke", data=form)).status_code == 200
        assert await eventually_refused(client, api, one) < 0.2
        assert await eventually_refused(client, other, one) < 1.0
        assert (await elsewhere.call("GET", OWN, kept)).status_code == 200
        named = {"client_id": client.client_id}
        revoked = await change(api, "/v1/clients/revoke-tokens", named)
        assert revoked.status_code == 200, revoked.text
        assert await eventually_refused(client, other, kept) < 1.0
        again = await client.token()  # one that asks at once is not refused for having asked too soon
        assert (await elsewhere.call("GET", OWN, again)).status_code == 200
        assert (await change(api, "/v1/clients/suspend", named)).json()["state"] == "suspended"
        assert await eventually_refused(client, other, again) < 1.0
        refused(await client.ask(), "unauthorized_client")
        assert (await change(api, "/v1/clients/resume", named)).json()["state"] == "active"
        assert await eventually_refused(client, api, again) < 0.2  # suspended once, refused for good
        assert (await client.call("GET", OWN, await client.token())).status_code == 200
    async with api.platform.pool.acquire() as connection:
        rows = await connection.fetch(
            "SELECT action FROM service.client_change WHERE client_id = $1 ORDER BY number", client.client_id
        )
    actions = ["registered", "key-added", "tokens-revoked", "suspended", "resumed"]
    assert [row["action"] for row in rows] == actions


async def test_only_a_token_of_ones_own_can_be_revoked(client: Client) -> None:
    other = await open_client(client.api)
    token = await other.token()
    form = token_form(client.key, client.client_id, client.issuer, token=token)
    refused(await client.api.client.post("/v1/oauth/revoke", data=form), "invalid_request")
    assert (await other.call("GET", OWN, token)).status_code == 200
    for nothing in ("x", "a.b.c", client.api.issuer.issue("operator", "ops")):
        form = token_form(client.key, client.client_id, client.issuer, token=nothing)
        assert (await client.api.client.post("/v1/oauth/revoke", data=form)).status_code == 200
    refused(await client.api.client.post("/v1/oauth/revoke", data={"token": token}), "invalid_client")


async def test_our_keys_vouch_for_our_access_tokens_alone(client: Client) -> None:
    platform = client.api.platform
    key = platform.token_keys.signer(datetime.now(UTC))
    claims = jwt.decode(await client.token(), options={"verify_signature": False})

    async def reason(changes: dict[str, Any], typ: str = "at+jwt") -> str:
        token = jwt.encode(claims | changes, key.private, "EdDSA", headers={"kid": key.kid, "typ": typ})
        found: str = problem_of(await client.call("GET", OWN, token), "unauthenticated")["reason"]
        return found

    assert await reason({}, typ="JWT") == "malformed"
    assert await reason({"iss": platform.settings.token_issuer}) == "wrong-issuer"
    assert await reason({"aud": "elsewhere"}) == "wrong-audience"
    assert await reason({"client_id": None}) == "missing-claim"
    assert await reason({"scope": "clients:write"}) == "scope-beyond-role"
    for cnf in ({}, {"x5t#S256": "A" * 43}, {"jkt": "short"}, "x", {"jkt": claims["cnf"]["jkt"], "jwk": {}}):
        assert await reason({"cnf": cnf}) == "bad-claim"
    stranger = new_key().private
    token = jwt.encode(claims, stranger, "EdDSA", headers={"kid": key.kid, "typ": "at+jwt"})
    answer = await client.call("GET", OWN, token)
    assert problem_of(answer, "unauthenticated")["reason"] == "bad-signature"


async def test_token_keys_rotate_under_load_without_a_refusal(api: Api) -> None:
    clients = [await open_client(api) for _ in range(4)]
    path, stop, seen = api.platform.settings.token_key_file, asyncio.Event(), set()

    async def work(client: Client) -> int:
        calls = 0
        while not stop.is_set():
            token = await client.token()
            seen.add(jwt.get_unverified_header(token)["kid"])
            for _ in range(3):
                answer = await client.call("GET", OWN, token)
                assert answer.status_code == 200, answer.text
                calls += 1
        return calls

    working = [asyncio.create_task(work(client)) for client in clients]
    await asyncio.sleep(0.2)
    first = next(iter(read_token_keys(path)))
    second = rotate_token_key(path, datetime.now(UTC) + timedelta(seconds=0.8)).kid
    await asyncio.sleep(1.4)
    stop.set()
    assert sum(await asyncio.gather(*working)) > 20
    assert seen == {first, second}
    for kid in (first, second):  # tokens of the first still count; the second signs
        with pytest.raises(TokenKeysUnusable):
            retire_token_key(path, kid, datetime.now(UTC))
    token = await clients[0].token()
    retire_token_key(path, second, datetime.now(UTC), compromised=True)
    await asyncio.sleep(0.6)
    answer = await clients[0].call("GET", OWN, token)
    assert problem_of(answer, "unauthenticated")["reason"] == "unknown-key"
    assert (await clients[0].call("GET", OWN, await clients[0].token())).status_code == 200


async def test_what_has_expired_is_forgotten(client: Client) -> None:
    async with client.api.platform.pool.acquire() as connection:
        for minutes in (-11, 11):
            ends = datetime.now(UTC) + timedelta(minutes=minutes)
            row = (client.client_id, f"swept {minutes}", ends)
            await connection.execute("INSERT INTO service.assertion_used VALUES ($1, $2, $3)", *row)
        assert await sweep_access(connection) == 1
        left = await connection.fetch("SELECT jti FROM service.assertion_used WHERE jti LIKE 'swept%'")
    assert [row["jti"] for row in left] == ["swept 11"]


@pytest.mark.parametrize("language", ["curl", "python"])
async def test_the_snippets_of_the_document(api: Api, tmp_path: Path, language: str) -> None:
    client = await open_client(api)
    private = client.key.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "client.pem").write_bytes(private)
    text = (Path(__file__).parents[2] / "docs" / "access.md").read_text("utf-8")
    found = re.search(rf"<!-- tested: {language} -->\n```\w+\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found
    (tmp_path / "snippet").write_text(found[1], "utf-8")
    program = {"curl": "sh", "python": sys.executable}[language]
    async with served(api) as url:
        environment = os.environ | {"PLATFORM": url, "CLIENT": client.client_id, "KID": client.key.key_id}
        done = await asyncio.create_subprocess_exec(
            program, "snippet", cwd=tmp_path, env=environment, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await done.communicate()
    assert done.returncode == 0
    assert json.loads(said)["uri"] == client.uri


def test_production_makes_no_token_keys_by_itself(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    firm = settings.model_copy(update={"mode": "production"})  # as if the rest of it were safe
    with pytest.raises(TokenKeysUnusable, match="tanpuhui token-key new"):
        open_access(firm)
    open_access(settings)
    assert open_access(firm).keys.keys
    settings.token_key_file.chmod(0o604)
    with pytest.raises(TokenKeysUnusable, match="chmod 600"):
        open_access(firm)


async def test_production_takes_proofs_for_its_own_address_alone(database: Database, tmp_path: Path) -> None:
    outside, data = DevelopmentIssuer(tmp_path / "idp", issuer="https://idp.example"), tmp_path / "data"
    create_token_keys(data / "token.keys.json")
    create_entitlement_key(data / "entitlement.key")
    create_private_file(data / "vault.keys.json", MASTERS)
    firm = {
        "mode": "production",
        "token_issuer": "https://idp.example",
        "jwks": str(outside.jwks_path),
        "oauth_issuer": "https://carbon.example",
        "log_origin": "carbon.example/log",
        "guard_file": tmp_path / "guard" / "guard",
    }
    async with running_api(database.app, database.redis, data, **firm) as running:
        running.issuer = outside
        proposed = await put_client(running, "firm-auditor", "auditor")
        assert proposed.status_code == 202  # one operator alone lets nobody in
        async with running.platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
            scopes = ROLE_SCOPES["auditor"]
            registration = Registration("firm-auditor", "auditor", None, "审计", "Audit", scopes, ())
            await register_client(connection, registration, by="operator-tests")
            key = new_key("firm")
            text = read_public_key({name: value for name, value in public_jwk(key).items() if name != "kid"})
            counted = ClientKey("firm", text, datetime(2026, 1, 1, tzinfo=UTC), None)
            await register_client_key(connection, "firm-auditor", counted, by="operator-tests")
        client = Client(running, "firm-auditor", None, key)
        refused(await client.ask(bound=False), "invalid_dpop_proof")
        token = await client.token()
        assert (await client.call("GET", "/v1/events", token)).status_code == 200
        elsewhere = {"DPoP": dpop_proof(key, "GET", "http://tests/v1/events", access_token=token)}  # what Host says
        answer = await running.client.get("/v1/events", headers={"Authorization": f"DPoP {token}"} | elsewhere)
        assert problem_of(answer, "unauthenticated")["reason"] == "proof-address"
