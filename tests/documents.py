"""Rule documents and approvers for tests: the shipped demonstration with changes, keys with their public entries."""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from service.approvals import ROLES, RuleName, public_entry, sign_approval
from service.clock import shanghai_day
from service.quantification import methodology, points

DEMO = (methodology.DIRECTORY / "demo-shared-ebike.yaml").read_text("utf-8")
DEMO_POINTS = (points.DIRECTORY / "demo-points.yaml").read_text("utf-8")
AUTHORITY, BODY = ROLES


def changed(text: str, *replaced: tuple[str, str]) -> bytes:
    """The document with each first text replaced by the second, which must stand in it once."""
    for old, new in replaced:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times"
        text = text.replace(old, new)
    return text.encode()


@dataclass(frozen=True, slots=True)
class Signer:
    """An approver's key pair."""

    key: Ed25519PrivateKey
    role: str
    person: str

    @property
    def kid(self) -> str:
        return public_entry(self.key.public_key())["kid"]

    @property
    def entry(self) -> dict[str, object]:
        return {**public_entry(self.key.public_key()), "role": self.role, "person": self.person}

    def body(
        self, rule: RuleName, role: str | None = None, on: date | None = None, programme: str = "demo"
    ) -> dict[str, str]:
        """What is posted to approve a document, signed today where no day is named."""
        role, on = role or self.role, on or shanghai_day(datetime.now(UTC))
        signature = sign_approval(self.key, programme, rule, role, on).hex()
        return {"role": role, "key": self.kid, "signature": signature, "signed_on": on.isoformat()}

    def write(self, path: Path) -> Path:
        """The private key as a file."""
        path.write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        path.chmod(0o600)
        return path


def signer(role: str, person: str) -> Signer:
    return Signer(Ed25519PrivateKey.generate(), role, person)


def write_approvers(path: Path, *entries: dict[str, object]) -> Path:
    path.write_text(json.dumps({"keys": entries}))
    return path
