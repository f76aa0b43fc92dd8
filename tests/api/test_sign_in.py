"""Citizens sign in by the city's identity provider: one person is one participant, and nobody else is let in."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from api.oauth.citizens import Citizens, ProviderKeys, is_for
from api.oauth.exchange import ACCESS_TOKEN, GRANT_TYPE, ID_TOKEN
from service.persons import person_tag, sweep_exchanged
from service.vault import find_person
from tests.api.bankers import new_key
from tests.api.identity_provider import (
    AUDIENCE,
    STAND_IN,
    Private,
    RealProvider,
    StandIn,
    real_provider,
    rsa_key,
    unsigned,
)
from tests.api.oauth_client import TOKEN, Client, open_client, put_client
from tests.running import Api, problem_of, running_api

pytestmark = pytest.mark.anyio

TERMS = "sample-terms-1"


@pytest.fixture(scope="module")
def provider() -> Iterator[RealProvider]:
    with real_provider() as running:
        yield running


@pytest.fixture(scope="module")
async def city(api: Api) -> AsyncIterator[StandIn]:
    """The API with an issuer whose tokens the tests make."""
    stand_in = StandIn({"k1": Ed25519PrivateKey.generate(), "p1": generate_private_key(SECP256R1())})
    citizens = Citizens(STAND_IN, AUDIENCE, ProviderKeys(STAND_IN, stand_in.client()))
    api.platform.citizens = citizens
    yield stand_in
    await citizens.close()


async def open_app(api: Api) -> str:
    """An app of people; its client id."""
    client_id = f"app-{os.urandom(5).hex()}"
    answer = await put_client(api, client_id, "participant")
    assert answer.status_code == 200, answer.text
    return client_id


async def exchange(
    api: Api, app: str, token: str, headers: dict[str, str] | None = None, **form: str
) -> httpx.Response:
    asked = {"grant_type": GRANT_TYPE, "client_id": app, "subject_token": token, "subject_token_type": ID_TOKEN}
    return await api.client.post(TOKEN, data=asked | form, headers=headers or {})


def refused(answer: httpx.Response, error: str, status: int = 400) -> str:
    assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text
    assert answer.headers["cache-control"] == "no-store"
    described: str = answer.json()["error_description"]
    return described


async def me(api: Api, answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    token = answer.json()["access_token"]
    read = await api.client.get("/v1/me", headers={"Authorization": f"Bearer {token}", "Accept-Language": "en"})
    assert read.status_code == 200, read.text
    found: dict[str, Any] = read.json()
    return found


async def test_a_citizen_signs_in_with_a_real_provider(
    provider: RealProvider, api: Api, tmp_path_factory: pytest.TempPathFactory, database: Any
) -> None:
    settings = {"citizen_issuer": provider.issuer, "citizen_audience": AUDIENCE}
    async with running_api(database.app, None, tmp_path_factory.mktemp("city"), **settings) as city:
        app, subject = await open_app(city), f"alice-{os.urandom(4).hex()}"
        token = provider.sign_in(subject, {"name": "Alice Ann", "birthdate": "1990-02-03"}, nonce="n-7")
        assert TERMS in refused(await exchange(city, app, token), "consent_required")
        refused(await exchange(city, app, token, terms="an-older-text"), "consent_required")
        refused(await exchange(city, app, token, terms=TERMS, nonce="n-8"), "invalid_request")
        first = await exchange(city, app, token, terms=TERMS, nonce="n-7")
        assert first.json()["issued_token_type"] == ACCESS_TOKEN
        assert first.json()["enrolled"] is True
        person = await me(city, first)
        assert (person["kind"], person["links"], [one["purpose"] for one in person["consents"]]) == (
            "citizen",
            [],
            ["terms"],
        )
        assert "exchanged before" in refused(await exchange(city, app, token, terms=TERMS), "invalid_request")
        again = await exchange(city, app, provider.sign_in(subject))
        assert again.json()["enrolled"] is False
        assert (await me(city, again))["participant_id"] == person["participant_id"]
        other = await exchange(city, app, provider.sign_in(f"bob-{os.urandom(4).hex()}"), terms=TERMS)
        assert (await me(city, other))["participant_id"] != person["participant_id"]
        await _nothing_tells(city, provider.issuer, subject, "Alice", "1990-02")


async def _nothing_tells(api: Api, issuer: str, subject: str, *words: str) -> None:
    """Of who somebody is, no table holds a word in the clear."""
    async with api.platform.pool.acquire() as connection:
        tables = await connection.fetch(
            "SELECT table_schema || '.' || table_name FROM information_schema.tables "
            "WHERE table_schema = 'service' AND has_table_privilege(table_schema || '.' || table_name, 'SELECT')"
        )
        for (table,) in tables:
            for word in (subject, *words):
                found = await connection.fetchval(
                    f"SELECT count(*) FROM {table} t WHERE t::text LIKE $1 OR t::text LIKE $2",
                    f"%{word}%",
                    f"%{word.encode().hex()}%",
                )
                assert found == 0, (table, word)
        known = await find_person(connection, person_tag(api.platform.keyring, issuer, subject))
        assert known is not None


async def test_a_token_that_is_bound_needs_its_key(api: Api, city: StandIn) -> None:
    app, key = await open_app(api), new_key()
    client = Client(api, app, None, key)
    answer = await exchange(api, app, city.token("bound"), client.proof("POST", TOKEN), terms=TERMS)
    assert answer.json()["token_type"] == "DPoP"
    token = answer.json()["access_token"]
    assert (await client.call("GET", "/v1/me", token)).status_code == 200
    stolen = await api.client.get("/v1/me", headers={"Authorization": f"Bearer {token}"})
    problem_of(stolen, "unauthenticated")


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256", "PS256"])
async def test_every_algorithm_of_the_provider_is_taken(api: Api, algorithm: str) -> None:
    private: Private = rsa_key()
    if algorithm in ("EdDSA", "ES256"):
        private = Ed25519PrivateKey.generate() if algorithm == "EdDSA" else generate_private_key(SECP256R1())
    for kid, members in (("k1", {"alg": algorithm, "use": "sig"}), (None, {})):
        issuer = StandIn({kid: private}, members=members)
        citizens = Citizens(STAND_IN, AUDIENCE, ProviderKeys(STAND_IN, issuer.client()))
        who = await citizens.identify(issuer.token("somebody", kid, algorithm, birthdate="2001-09-30"), None)
        assert (who.issuer, who.subject, who.birth_month) == (STAND_IN, "somebody", "2001-09")
        await citizens.close()


def _attacks(city: StandIn) -> dict[str, str]:
    now, mallory = int(time.time()), Ed25519PrivateKey.generate()
    public = (
        city.keys["k1"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    raw = city.keys["k1"].public_key().public_bytes_raw()  # type: ignore[union-attr]  # it is Ed25519
    good = city.token("victim")
    head, _, signature = good.split(".")
    other = city.token("mallory").split(".")[1]
    return {
        "nobody signed it": unsigned(good),
        "nobody signed it, in capitals": unsigned(good, "NONE"),
        "the public key as a secret": _hs256(good, public),
        "its raw bytes as a secret": _hs256(good, raw),
        "another's key under this kid": city.token("victim", key=mallory),
        "a key that is nobody's": city.token("victim", key=mallory, header={"kid": "k9"}),
        "a key brought along": city.token("victim", key=mallory, header={"jwk": {"kty": "OKP"}, "kid": "k1"}),
        "another's words under this signature": f"{head}.{other}.{signature}",
        "a header that must be understood": city.token("victim", header={"crit": ["b64"], "b64": False}),
        "another issuer": city.token("victim", iss="https://id.city.example.evil"),
        "an issuer with a slash": city.token("victim", iss=f"{STAND_IN}/"),
        "another audience": city.token("victim", aud="another-app"),
        "an audience like it": city.token("victim", aud=f"{AUDIENCE}-2"),
        "several audiences, issued to none": city.token("victim", aud=[AUDIENCE, "another-app"]),
        "several audiences, issued to another": city.token("victim", aud=[AUDIENCE, "another-app"], azp="another-app"),
        "one audience, issued to another": city.token("victim", azp="another-app"),
        "no audience": city.token("victim", aud=None),
        "over": city.token("victim", exp=now - 60, iat=now - 400),
        "not yet made": city.token("victim", iat=now + 300, exp=now + 600),
        "not valid yet": city.token("victim", nbf=now + 300),
        "made long ago": city.token("victim", iat=now - 7200, exp=now + 7200),
        "without an end": city.token("victim", exp=None),
        "without a beginning": city.token("victim", iat=None),
        "of nobody": city.token("victim", sub=None),
        "of somebody with a control character": city.token("vic\ttim"),
        "a word": "nonsense",
        "too long": city.token("victim", filler="x" * 9000),
    }


def _hs256(token: str, secret: bytes) -> str:
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": "k1", "typ": "JWT"}).encode()).rstrip(b"=")
    signed = head + b"." + token.split(".")[1].encode()
    mac = base64.urlsafe_b64encode(hmac.digest(secret, signed, hashlib.sha256)).rstrip(b"=")
    return (signed + b"." + mac).decode()


async def test_a_token_that_is_not_the_providers_lets_nobody_in(api: Api, city: StandIn) -> None:
    app = await open_app(api)
    for name, token in _attacks(city).items():
        answer = await exchange(api, app, token, terms=TERMS)
        assert answer.status_code == 400, (name, answer.text)
        assert token not in answer.text, name
        refused(answer, "invalid_request")
    async with api.platform.pool.acquire() as connection:
        tag = person_tag(api.platform.keyring, STAND_IN, "victim")
        assert await find_person(connection, tag) is None


async def test_who_asks_and_how_is_checked(api: Api, city: StandIn) -> None:
    app, machine = await open_app(api), await open_client(api)
    token = city.token("asked")
    refused(await exchange(api, "app-unknown", token, terms=TERMS), "invalid_client", 401)
    refused(await exchange(api, machine.client_id, token, terms=TERMS), "invalid_client", 401)
    asked = {"subject_token": token, "subject_token_type": ID_TOKEN, "terms": TERMS}
    refused(await machine.ask(grant_type=GRANT_TYPE, bound=True, **asked), "unauthorized_client")
    forms: tuple[tuple[dict[str, Any], str], ...] = (
        ({"subject_token_type": ACCESS_TOKEN}, "invalid_request"),
        ({"requested_token_type": ID_TOKEN}, "invalid_request"),
        ({"actor_token": token}, "invalid_request"),
        ({"audience": "another"}, "invalid_request"),
        ({"scope": "activities:write"}, "invalid_scope"),
        ({"scope": "balance:read balance:everything"}, "invalid_scope"),
    )
    for form, error in forms:
        refused(await exchange(api, app, token, **({"terms": TERMS} | form)), error)
    granted = await exchange(api, app, token, terms=TERMS, scope="balance:read")
    assert granted.json()["scope"] == "balance:read"  # a refused request did not use the token up
    claims = jwt.decode(granted.json()["access_token"], options={"verify_signature": False})
    assert (claims["role"], claims["client_id"]) == ("participant", app)


async def test_of_many_first_times_at_once_one_participant_comes(api: Api, city: StandIn) -> None:
    app = await open_app(api)
    answers = await asyncio.gather(*(exchange(api, app, city.token("eager"), terms=TERMS) for _ in range(8)))
    assert len({(await me(api, answer))["participant_id"] for answer in answers}) == 1
    assert sorted(answer.json()["enrolled"] for answer in answers) == [False] * 7 + [True]
    token = city.token("eager")
    twice = await asyncio.gather(*(exchange(api, app, token) for _ in range(4)))
    assert sorted(answer.status_code for answer in twice) == [200, 400, 400, 400]


async def test_tokens_are_remembered_for_as_long_as_they_are_good(api: Api, city: StandIn) -> None:
    app, soon, over = await open_app(api), int(time.time()) + 20, datetime.now(UTC) - timedelta(hours=2)
    token = city.token("remembered", exp=soon)
    await exchange(api, app, token, terms=TERMS)
    async with api.platform.pool.acquire() as connection:
        await connection.execute("INSERT INTO service.exchanged_token VALUES ($1, $2)", os.urandom(32), over)
        assert await sweep_exchanged(connection) == 1
    assert "exchanged before" in refused(await exchange(api, app, token, terms=TERMS), "invalid_request")


async def test_another_signature_is_not_another_token(api: Api, city: StandIn) -> None:
    """Of an ECDSA signature anybody makes a second one that is as good: (r, n - s)."""
    app, token = await open_app(api), city.token("twin", "p1", "ES256")
    signed, _, text = token.rpartition(".")
    signature = base64.urlsafe_b64decode(text + "==")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256 (FIPS 186-5)
    other = signature[:32] + (order - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
    twin = f"{signed}.{base64.urlsafe_b64encode(other).rstrip(b'=').decode()}"
    assert (await api.platform.citizens.identify(twin, None)).subject == "twin"  # type: ignore[union-attr]  # the fixture's
    assert (await exchange(api, app, token, terms=TERMS)).status_code == 200
    assert "exchanged before" in refused(await exchange(api, app, twin, terms=TERMS), "invalid_request")


names = st.sampled_from([AUDIENCE, "another-app", ""])


@given(st.one_of(names, st.lists(names, max_size=3)), st.one_of(st.none(), names))
def test_a_token_is_for_whom_it_was_issued_to(audience: Any, issued_to: str | None) -> None:
    several = audience if isinstance(audience, list) else [audience]
    wanted = AUDIENCE in several and (issued_to == AUDIENCE or (issued_to is None and len(several) == 1))
    claims = {"aud": audience} | ({} if issued_to is None else {"azp": issued_to})
    assert is_for(claims, AUDIENCE) == wanted


async def test_whoever_takes_the_terms_back_is_asked_again(api: Api, city: StandIn) -> None:
    app = await open_app(api)
    first = await exchange(api, app, city.token("wavering"), terms=TERMS)
    bearer = {"Authorization": f"Bearer {first.json()['access_token']}"}
    [consent] = (await api.client.get("/v1/me/consents", headers=bearer)).json()["consents"]
    path = f"/v1/me/consents/{consent['consent_id']}/withdraw"
    assert (await api.client.post(path, headers=bearer)).status_code == 204
    problem_of(await api.client.post(path, headers=bearer), "consent-not-found")
    refused(await exchange(api, app, city.token("wavering")), "consent_required")
    again = await exchange(api, app, city.token("wavering"), terms=TERMS)
    assert again.json()["enrolled"] is False
    consents = (await me(api, again))["consents"]
    assert [one["withdrawn_at"] is None for one in consents] == [False, True]


async def test_a_new_text_is_agreed_to_anew(api: Api, city: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    app, texts = await open_app(api), api.platform.texts
    await exchange(api, app, city.token("reader"), terms=TERMS)
    newer = type(texts.terms)("terms-2", texts.terms.text, None)
    monkeypatch.setattr(api.platform, "texts", type(texts)(newer, texts.activities, texts.bank))
    assert "terms-2" in refused(await exchange(api, app, city.token("reader"), terms=TERMS), "consent_required")
    agreed = await exchange(api, app, city.token("reader"), terms="terms-2")
    assert [one["text_version"] for one in (await me(api, agreed))["consents"]] == [TERMS, "terms-2"]


async def test_keys_are_found_followed_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProviderKeys, "UNKNOWN_KID_PAUSE", 0.0)
    issuer = StandIn({None: Ed25519PrivateKey.generate()})
    citizens = Citizens(STAND_IN, AUDIENCE, ProviderKeys(STAND_IN, issuer.client()))
    assert (await citizens.identify(issuer.token("one", None), None)).subject == "one"
    assert issuer.asked == 2  # its metadata, and its keys
    issuer.keys = {None: Ed25519PrivateKey.generate()}
    assert (await citizens.identify(issuer.token("two", None), None)).subject == "two"
    issuer.keys = {"a": Ed25519PrivateKey.generate(), "b": Ed25519PrivateKey.generate()}
    assert (await citizens.identify(issuer.token("three", "b"), None)).subject == "three"
    issuer.away = True
    assert (await citizens.identify(issuer.token("four", "a"), None)).subject == "four"  # the last good keys stay
    await citizens.close()


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://another.example", "jwks_uri": f"{STAND_IN}/jwks"},
        {"issuer": STAND_IN, "jwks_uri": "http://id.city.example/jwks"},
        {"issuer": STAND_IN, "jwks_uri": 7},
        {"issuer": STAND_IN},
    ],
)
async def test_a_provider_that_is_not_who_it_says_is_not_there(
    api: Api, city: StandIn, metadata: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = StandIn(dict(city.keys), metadata=metadata)
    citizens = Citizens(STAND_IN, AUDIENCE, ProviderKeys(STAND_IN, issuer.client()))
    monkeypatch.setattr(api.platform, "citizens", citizens)
    app = await open_app(api)
    answer = await exchange(api, app, issuer.token("somebody"), terms=TERMS)
    refused(answer, "temporarily_unavailable", 503)
    assert answer.headers["retry-after"]
    await citizens.close()


async def test_without_a_provider_nobody_signs_in(api: Api, city: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.platform, "citizens", None)
    refused(await exchange(api, await open_app(api), city.token("somebody"), terms=TERMS), "unsupported_grant_type")


async def test_the_texts_are_there_to_be_read_before(api: Api) -> None:
    shown = (await api.client.get("/v1/consent-texts")).json()
    assert shown["terms"]["text_version"] == TERMS
    assert all(shown[name][language] for name in shown for language in ("zh", "en"))
