"""Ask the platform until it answers: the other snippets import this. Standard library only."""

import json
import os
import random
import sys
import time
from email.message import Message
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

PLATFORM, SOURCE = os.environ["PLATFORM"], os.environ["SOURCE"]
AGAIN = {408, 429, 500, 502, 503, 504}  # nothing was decided, or nobody knows: the same again
PATIENCE_S = 300.0
LONGEST_PAUSE_S = 10.0


def ask(method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, Any]:
    """The answer's status and its document. It may take minutes: whatever is not answered is sent again, unchanged."""
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": kind, "Accept-Language": os.environ.get("READ_IN", "en")}
    give_up, pause_s = time.monotonic() + PATIENCE_S, 0.5
    while True:
        headers["Authorization"] = f"Bearer {os.environ['PROVIDER_TOKEN']}"  # or fetch a new one before it ends
        status, said, answer = _once(Request(PLATFORM + path, content, headers, method=method))
        too_large = status == 429 and "Retry-After" not in said  # the request alone is over the quota: split it
        if (status and status not in AGAIN) or too_large:
            return status, json.loads(answer)
        wait_s = float(said.get("Retry-After") or 0) + random.uniform(0, pause_s)
        if time.monotonic() + wait_s > give_up:
            sys.exit(f"{method} {path}: no answer within {PATIENCE_S:g} s. Start again later: nothing counts twice.")
        time.sleep(wait_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _once(request: Request) -> tuple[int, Message, bytes]:
    """Status, headers and body; status 0 when there was no whole answer."""
    try:
        try:
            answer = urlopen(request, timeout=60)
        except HTTPError as refused:
            answer = refused
        with answer:
            return answer.status, answer.headers, answer.read()
    except (OSError, HTTPException):  # no connection, cut off, or nothing in time
        return 0, Message(), b""
