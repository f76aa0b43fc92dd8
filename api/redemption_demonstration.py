"""A rehearsal of redemption over the public HTTP API: operators open a pool, register a bank and list its offers,
people with points redeem, and a bank of its own process settles. For development: every token is of the development
issuer.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.auth import DevelopmentIssuer
from api.demonstration import Terminal, enrolled_riders
from api.signatures import SigningKey, public_jwk
from api.supervisor import RunningPlatform
from service.feeds import Feed
from service.jws import thumbprint
from service.keyring import create_private_file
from service.products.shipped import load_demonstration
from service.settings import PREFIX

BANK, POOL = "https://bank.example/green", "demo-green-pool"
REDEMPTIONS = 12
LOOKED_AT = 200  # riders; in the shipped file every second one has points enough
BUDGET_POINTS, BUDGET_FEN = 1_000_000, 12_500_000
RATE_FEN, RATE_POINTS = 25, 2  # the dearest of the shipped offers is paid 12.5 fen a point
WANTED: tuple[tuple[str, int], ...] = (
    ("demo-interest-coupon", 5),
    ("demo-tree-donation", 4),
    ("demo-rate-discount", 1),
)
"""The shipped offers, and how many units somebody takes of each."""
SANDBOX_SOURCE = "urn:tanpuhui:source:bank-sandbox"
TIMEOUT_S = 30
KNOWN_AFTER_S = 2.0  # every API process knows a listing and a key within a second
SETTLED_WITHIN_S = 600.0


class RehearsalFailed(Exception):
    """The platform answered otherwise than it should; the message says what."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Where the rehearsal's files stand, and who asks the platform."""

    directory: Path
    client: httpx.Client
    issuer: DevelopmentIssuer

    @property
    def key_file(self) -> Path:
        """The bank's private key, mode 0600."""
        return self.directory / "key.pem"

    @property
    def book_file(self) -> Path:
        """The bank's own book."""
        return self.directory / "book.jsonl"

    @property
    def entitlements_file(self) -> Path:
        """What the bank's customers present, one entitlement a line."""
        return self.directory / "entitlements.txt"

    def ask(self, token: str, method: str, path: str, *, allowed: tuple[int, ...] = (), **content: Any) -> Any:
        """What the platform answers to this token. Raises RehearsalFailed for a refusal with another status than the
        allowed ones, of which the answer is None."""
        headers = {"Authorization": f"Bearer {token}", "Accept-Language": "en"} | content.pop("headers", {})
        try:
            found = self.client.request(method, path, headers=headers, **content)
        except httpx.HTTPError as error:
            raise RehearsalFailed(f"{method} {path}: {type(error).__name__} {error}") from error
        if found.status_code in allowed:
            return None
        if not found.is_success:
            raise RehearsalFailed(f"{method} {path}: {found.status_code} {found.text[:500]}")
        return found.json()

    def operator(self, number: int = 1) -> str:
        return self.issuer.issue("operator", f"demonstration-{number}")


def rehearsal(url: str, data_dir: Path, issuer: DevelopmentIssuer) -> Rehearsal:
    """The rehearsal of the platform at this address; close its client."""
    return Rehearsal(data_dir / "demo-bank", httpx.Client(base_url=url, timeout=TIMEOUT_S), issuer)


def open_market(stage: Rehearsal) -> SigningKey:
    """The pool, the bank with its key, and the shipped products and offers, on the word of two operators. The same
    again changes nothing. Returns the bank's key; raises RehearsalFailed."""
    first, second = stage.operator(1), stage.operator(2)
    pool = {
        "pool": POOL,
        "funder": "https://fund.example/demo",
        "title_zh": "演示绿色权益资金池",
        "title_en": "The demonstration's pool of green benefits",
        "rate_fen": RATE_FEN,
        "rate_points": RATE_POINTS,
        "shortage": "stop",
        "points": BUDGET_POINTS,
        "value_fen": BUDGET_FEN,
    }
    stage.ask(first, "PUT", "/v1/pools", json=pool)
    titles = {"title_zh": "演示绿色银行", "title_en": "The demonstration's green bank"}
    bank = stage.ask(first, "PUT", "/v1/banks", json={"uri": BANK, **titles})
    key = _bank_key(stage.key_file)
    new = key.key_id not in {known["key"]["kid"] for known in bank["keys"]}
    if new:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        stage.ask(first, "PUT", "/v1/banks/keys", json={"bank": BANK, "key": public_jwk(key), "valid_from": now})
    for document in load_demonstration():
        yaml = {"Content-Type": "text/yaml"}
        shown = stage.ask(first, "PUT", "/v1/products/documents", content=document.document, headers=yaml)
        path = f"/v1/products/documents/{document.kind}/{document.id}/{document.version}/approve"
        for token in (first, second) if shown["state"] == "submitted" else ():
            stage.ask(token, "POST", path, allowed=(409,))
            new = True
    if new:
        time.sleep(KNOWN_AFTER_S)
    return key


def _bank_key(path: Path) -> SigningKey:
    """The bank's key, made on first use; its id follows from it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    private = Ed25519PrivateKey.generate()
    if not path.exists():
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        create_private_file(path, private.private_bytes(*form))
    loaded = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(loaded, Ed25519PrivateKey):
        raise RehearsalFailed(f"{path} holds another kind of key than Ed25519: remove it and a new one is made")
    jwk = public_jwk(SigningKey("", loaded))
    del jwk["kid"]
    return SigningKey(f"demo-{thumbprint(json.dumps(jwk)).hex()[:16]}", loaded)


def redeem(stage: Rehearsal, participant_id: str, first: int) -> str | None:
    """The redemption of one person: the one they have, or a new one of the first offer that they may have and can pay,
    in an order that begins at the place `first`. Returns its state, None where there is nothing they can have; what
    they can still show to the bank is put into its file. Raises RehearsalFailed."""
    token, path = stage.issuer.issue("participant", participant_id), f"/v1/participants/{participant_id}"
    known = stage.ask(token, "GET", f"{path}/redemptions")["redemptions"]
    found = known[-1] if known else _placed(stage, token, participant_id, first)
    if found is None:
        return None
    if found["state"] == "held" and found["accepted_at"] is None:
        issued = stage.ask(token, "POST", f"{path}/redemptions/{found['redemption_id']}/entitlement")
        with stage.entitlements_file.open("a", encoding="ascii") as file:
            file.write(issued["entitlement"] + "\n")
    return str(found["state"])


def _placed(stage: Rehearsal, token: str, participant_id: str, first: int) -> dict[str, Any] | None:
    path, begin = f"/v1/participants/{participant_id}", first % len(WANTED)
    for offer, units in WANTED[begin:] + WANTED[:begin]:
        quote = stage.ask(token, "POST", f"{path}/quotes", json={"offer": offer, "units": units})
        if quote["eligible"]:
            consent = {"text_version": quote["text_version"], "given_at": datetime.now(UTC).isoformat()}
            body = {name: quote[name] for name in ("offer", "version", "units", "points")} | {"consent": consent}
            key = {"Idempotency-Key": f'"demonstration-{participant_id}"'}
            placed = stage.ask(token, "POST", f"{path}/redemptions", json=body, headers=key)
            found: dict[str, Any] = placed["redemption"]
            return found
    return None


def present(stage: Rehearsal, people: Iterable[str], number: int) -> int:
    """Let so many people redeem, and put what they show to the bank into its file; how many have redeemed, now or
    before. Raises RehearsalFailed."""
    stage.entitlements_file.unlink(missing_ok=True)
    create_private_file(stage.entitlements_file, b"")
    redeemed = 0
    for participant_id in people:
        if redeemed == number:
            break
        redeemed += redeem(stage, participant_id, redeemed) is not None
    return redeemed


def sandbox_people(stage: Rehearsal, number: int) -> Iterator[str]:
    """New people with a ride each of today, which is worth 105 points: customers for a bank that has none. Raises
    RehearsalFailed."""
    now = datetime.now(UTC).replace(microsecond=0)
    operator = stage.operator()
    source = {
        "uri": SANDBOX_SOURCE,
        "title_zh": "银行沙箱骑行",
        "title_en": "Rides of the banks' sandbox",
        "grade": "A",
    }
    licence = {"scenarios": ["shared-ebike"], "valid_from": "2016-01-01"}
    stage.ask(operator, "PUT", "/v1/sources", json=source | licence)
    provider = stage.issuer.issue("provider", SANDBOX_SOURCE, source=SANDBOX_SOURCE)
    run = os.urandom(6).hex()
    for place in range(number):
        subject = f"customer-{run}-{place}"
        consent = {"purpose": "carbon-credit", "text_version": "sandbox-1", "given_at": now.isoformat()}
        link = {"source": SANDBOX_SOURCE, "subject": subject, "consent": consent}
        made = stage.ask(operator, "POST", "/v1/participants", json={"kind": "citizen", "links": [link]})
        event = {
            "specversion": "1.0",
            "type": "org.tanpuhui.activity.v1",
            "source": SANDBOX_SOURCE,
            "id": f"ride-{run}-{place}",
            "subject": subject,
            "data": {
                "scenario": "shared-ebike",
                "started_at": (now - timedelta(minutes=15)).isoformat(),
                "ended_at": now.isoformat(),
                "inputs": {"distance_km": "3"},
            },
        }
        kind = {"Content-Type": "application/cloudevents+json"}
        stage.ask(provider, "POST", "/v1/activities", content=json.dumps(event), headers=kind)
        yield made["participant_id"]


def demonstrate_redemption(platform: RunningPlatform, terminal: Terminal, feed: Feed, file: Path) -> dict[str, Any]:
    """The whole rehearsal with riders of the file; what came of it: `redemptions`, `reconciled`, `reconciliation`.

    Repeating it redeems nothing twice. Where it fails, that is said, and nothing is claimed to agree.
    """
    terminal.console.print()
    data_dir = platform.settings.data_dir
    stage = rehearsal(platform.url, data_dir, platform.issuer)
    try:
        with stage.client:
            terminal.say(
                "设立演示资金池，登记演示银行，由两人批准产品与权益上架",
                "the demonstration's pool is opened, its bank registered, and its offers listed on the word of two",
            )
            key = open_market(stage)
            redeemed = present(stage, _people(stage, feed, file), REDEMPTIONS)
            terminal.say(
                f"{redeemed} 位骑行者以积分兑换权益，凭证交给银行",
                f"{redeemed} riders redeem points for a benefit, and show their entitlements to the bank",
            )
        outcome = run_bank(stage, platform.url, key, data_dir, terminal)
    except RehearsalFailed as error:
        terminal.say("兑换演示未能完成，原因见下", "the demonstration of redemption stopped; the reason stands below")
        terminal.console.print(str(error), markup=False)
        return {"redemptions": {"held": 0, "captured": 0, "voided": 0, "lapsed": 0}, "reconciled": False}
    return {name: outcome[name] for name in ("redemptions", "reconciled", "reconciliation")}


def _people(stage: Rehearsal, feed: Feed, file: Path) -> Iterator[str]:
    stage.client.headers["Authorization"] = f"Bearer {stage.operator()}"
    for place, (_, participant_id) in enumerate(enrolled_riders(stage.client, feed, file)):
        if place == LOOKED_AT:
            return
        yield participant_id


def run_bank(stage: Rehearsal, url: str, key: SigningKey, data_dir: Path, terminal: Terminal) -> dict[str, Any]:
    """Start the simulated bank as a process of its own, show what it says, and return its result. Raises
    RehearsalFailed."""
    terminal.say("启动模拟银行（独立进程，只经公开接口）", "a simulated bank, a process of its own, settles over HTTP")
    options = {
        "--url": url,
        "--bank": BANK,
        "--key": stage.key_file,
        "--kid": key.key_id,
        "--book": stage.book_file,
        "--entitlements": stage.entitlements_file,
    }
    command = [sys.executable, "-m", "api.cli", "bank", "simulate", "--json"]
    command += [str(word) for option in options.items() for word in option]
    token = stage.issuer.issue("bank", BANK, bank=BANK, ttl=timedelta(hours=24))
    environment = os.environ | {PREFIX + "TOKEN": token, PREFIX + "DATA_DIR": str(data_dir.absolute())}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SETTLED_WITHIN_S,
            check=False,
        )
        terminal.console.print(done.stderr.rstrip(), markup=False)
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        raise RehearsalFailed(f"the simulated bank ended without a result: {type(error).__name__} {error}") from error
    return result
