"""What the users of `make load` share: tokens of the development issuer, a registered source, and enrolled riders."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from api.auth import DevelopmentIssuer, Role
from load_tests.events import SOURCE, SOURCE_REGISTRATION

RIDERS = 200
TOKEN_LIFE = timedelta(hours=24)


class AccessRefused(Exception):
    """The platform cannot be put under load from here; the message says why."""


@dataclass(frozen=True, slots=True)
class EnrolledRider:
    """A participant, the provider's own id for it, and the header of its own token."""

    subject: str
    participant_id: str
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Access:
    """Headers of every role, and the riders."""

    provider: dict[str, str]
    operator: dict[str, str]
    riders: list[EnrolledRider]


def open_access(url: str) -> Access:
    """Issue the tokens, register the source, enrol the riders; the same ones at every run. Raises AccessRefused."""
    issuer = _issuer()
    operator = _bearer(issuer, "operator", "load-tests")
    try:
        with httpx.Client(base_url=url, headers=operator, timeout=30) as client:
            client.put("/v1/sources", json=SOURCE_REGISTRATION).raise_for_status()
            riders = [_enrolled(client, issuer, f"load rider {number}") for number in range(RIDERS)]
    except httpx.HTTPStatusError as error:
        answer = error.response
        raise AccessRefused(
            f"{error.request.method} {error.request.url.path}: expected success; came {answer.status_code} "
            f"{answer.text[:300]}. TANPUHUI_DATA_DIR is the data directory of the platform at HOST."
        ) from error
    except httpx.HTTPError as error:
        raise AccessRefused(f"no platform answers at {url} ({error}): start it with `make run`, or set HOST") from error
    return Access(_bearer(issuer, "provider", "load-tests", source=SOURCE), operator, riders)


def enrolment(subject: str) -> dict[str, Any]:
    """The body that enrols a citizen whom the load tests' source knows as `subject`."""
    consent = {
        "purpose": "carbon-credit",
        "text_version": "load-tests-1",
        "given_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return {"kind": "citizen", "links": [{"source": SOURCE, "subject": subject, "consent": consent}]}


def _issuer() -> DevelopmentIssuer:
    """The issuer the platform trusts. It is not made here: a platform that runs has one."""
    data_dir = Path(os.environ.get("TANPUHUI_DATA_DIR", ".data"))
    if not (data_dir / "development-issuer" / "key.pem").is_file():
        raise AccessRefused(
            f"no development issuer in {data_dir}: start the platform with `make run`, or set TANPUHUI_DATA_DIR to its "
            "data directory"
        )
    return DevelopmentIssuer(data_dir)


def _enrolled(client: httpx.Client, issuer: DevelopmentIssuer, subject: str) -> EnrolledRider:
    made = client.post("/v1/participants", json=enrolment(subject)).raise_for_status().json()
    participant_id = str(made["participant_id"])
    return EnrolledRider(subject, participant_id, _bearer(issuer, "participant", participant_id))


def _bearer(issuer: DevelopmentIssuer, role: Role, subject: str, *, source: str | None = None) -> dict[str, str]:
    return {"Authorization": f"Bearer {issuer.issue(role, subject, source=source, ttl=TOKEN_LIFE)}"}
