"""Identity providers as tests meet them: a real one in a process of its own, and one whose every token a test makes."""

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from service.embedded.processes import free_port

AUDIENCE = "city-app"
STAND_IN = "https://id.city.example"
Private = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class RealProvider:
    """`oidc-provider-mock` over HTTP: discovery, a sign-in form, the authorisation code flow, RS256."""

    issuer: str

    def sign_in(self, subject: str, claims: Mapping[str, Any] | None = None, nonce: str = "n-1") -> str:
        """What the city's app does: let somebody sign in by the form, and fetch the ID token for the code."""
        with httpx.Client(base_url=self.issuer) as client:
            client.put(f"/users/{subject}", json=dict(claims or {})).raise_for_status()
            asked = {
                "client_id": AUDIENCE,
                "redirect_uri": "https://app.city.example/signed-in",
                "response_type": "code",
                "scope": "openid profile",
                "nonce": nonce,
            }
            went = client.post("/oauth2/authorize", params=asked, data={"sub": subject})
            [code] = parse_qs(urlsplit(went.headers["location"]).query)["code"]
            form = {"grant_type": "authorization_code", "code": code, "redirect_uri": asked["redirect_uri"]}
            answer = client.post("/oauth2/token", data=form, auth=(AUDIENCE, "any"))
            token: str = answer.json()["id_token"]
            return token


@contextmanager
def real_provider() -> Iterator[RealProvider]:
    """Run one until the tests are done with it."""
    port = free_port(None)
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port)]
    environment = os.environ | {"AUTHLIB_INSECURE_TRANSPORT": "1"}  # it is asked on this machine
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        issuer = f"http://localhost:{port}"
        _wait(process, f"{issuer}/.well-known/openid-configuration")
        yield RealProvider(issuer)
    finally:
        process.terminate()
        process.wait(10)


def _wait(process: "subprocess.Popen[bytes]", url: str) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        try:
            httpx.get(url).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("the identity provider did not start")


def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def public_entry(kid: str | None, private: Private, **members: str) -> dict[str, Any]:
    """A key as a JWKS holds it."""
    algorithm: Any = (
        jwt.algorithms.OKPAlgorithm
        if isinstance(private, ed25519.Ed25519PrivateKey)
        else jwt.algorithms.ECAlgorithm
        if isinstance(private, ec.EllipticCurvePrivateKey)
        else jwt.algorithms.RSAAlgorithm
    )
    found: dict[str, Any] = json.loads(algorithm.to_jwk(private.public_key()))
    found.pop("key_ops", None)
    return found | ({} if kid is None else {"kid": kid}) | members


@dataclass(slots=True)
class StandIn:
    """An issuer whose documents and tokens are as a test wants them; its network is this object."""

    keys: dict[str | None, Private] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=lambda: {"issuer": STAND_IN, "jwks_uri": f"{STAND_IN}/jwks"})
    members: dict[str, str] = field(default_factory=dict)
    away: bool = False
    asked: int = 0

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.away:
            raise httpx.ConnectError("nobody is there", request=request)
        if request.url.path == "/jwks":
            return httpx.Response(
                200, json={"keys": [public_entry(kid, key, **self.members) for kid, key in self.keys.items()]}
            )
        return httpx.Response(200, json=self.metadata)

    def token(
        self,
        subject: str,
        kid: str | None = "k1",
        algorithm: str = "EdDSA",
        *,
        key: Any = None,
        header: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """An ID token; `claims` replace what it says, and leave it out where they are None."""
        now = int(time.time())
        said = {"iss": STAND_IN, "sub": subject, "aud": AUDIENCE, "iat": now, "exp": now + 300}
        said["jti"] = os.urandom(8).hex()  # two of one second are two tokens
        said = {name: value for name, value in (said | claims).items() if value is not None}
        headers = ({} if kid is None else {"kid": kid}) | dict(header or {})
        return jwt.encode(said, key or self.keys[kid], algorithm, headers=headers)


def unsigned(token: str, algorithm: str = "none") -> str:
    """A token whose header says that nobody signed it."""
    _, payload, _ = token.split(".")
    header = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "kid": "k1"}).encode()).rstrip(b"=").decode()
    return f"{header}.{payload}."
