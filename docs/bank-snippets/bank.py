"""Call the platform as a bank: signed (RFC 9421), and asked again until it answers. The other programs import this.

Beside the standard library: pip install http-message-signatures 'pyjwt[crypto]'
"""

import json
import os
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver
from http_message_signatures.algorithms import ED25519

PLATFORM, BANK = os.environ["PLATFORM"], os.environ["BANK"]
KEY_ID = json.loads(Path("bank.jwk").read_text())["kid"]
AHEAD = timedelta(seconds=int(os.environ.get("TANPUHUI_CLOCK_OFFSET", "0")))  # of a sandbox that was moved
AGAIN = {408, 429, 500, 502, 503, 504}  # nothing was decided, or nobody knows: the same again
PATIENCE_S, LONGEST_PAUSE_S = 300.0, 10.0


@dataclass
class _Message:
    method: str
    url: str
    headers: dict[str, str]


class _Key(HTTPSignatureKeyResolver):
    def resolve_private_key(self, key_id: str) -> Any:
        return load_pem_private_key(Path("bank.pem").read_bytes(), password=None)

    def resolve_public_key(self, key_id: str) -> Any:
        raise KeyError(key_id)


def signed(method: str, path: str, body: bytes, headers: dict[str, str]) -> dict[str, str]:
    """The headers with a signature: each call, and each repetition, has a nonce of its own."""
    message = _Message(method, PLATFORM + path, dict(headers))
    covered = ["@method", "@authority", "@path", "content-digest"]  # and "@query" where there is one
    covered += ["idempotency-key"] if "Idempotency-Key" in headers else []
    HTTPMessageSigner(signature_algorithm=ED25519, key_resolver=_Key()).sign(
        message,
        key_id=KEY_ID,
        created=datetime.now(UTC) + AHEAD,
        nonce=secrets.token_hex(16),
        tag="tanpuhui-bank",
        covered_component_ids=covered,
        body=body,  # of which the library makes the Content-Digest
    )
    return message.headers


def call(method: str, path: str, body: Any = None, key: str | None = None, kind: str = "application/json") -> Any:
    """The answer's status and its document. A call that moves points has a `key` of its own record: the same operation
    again has the same key."""
    content = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    headers = {"Authorization": f"Bearer {os.environ['BANK_TOKEN']}", "Accept-Language": os.environ["READ_IN"]}
    if method != "GET":
        headers |= {"Content-Type": kind} | ({"Idempotency-Key": f'"{key}"'} if key else {})
    give_up, pause_s = time.monotonic() + PATIENCE_S, 0.5
    while True:
        sent = headers if method == "GET" else signed(method, path, content, headers)
        status, answer = _once(Request(PLATFORM + path, None if method == "GET" else content, sent, method=method))
        if (status and status not in AGAIN) or time.monotonic() > give_up:
            return status, json.loads(answer or b"{}")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _once(request: Request) -> tuple[int, bytes]:
    try:
        with urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except HTTPError as refusal:
        return refusal.code, refusal.read()
    except (OSError, HTTPException):  # nobody knows whether it was done: the same again, under the same key
        return 0, b""


def done(answered: tuple[int, Any]) -> Any:
    """The document of a good answer; a refusal ends the program, and says what to do."""
    status, document = answered
    if status >= 300:
        raise SystemExit(f"{status} {document.get('type')}: {document.get('detail')}\n{document.get('remedy', '')}")
    return document
