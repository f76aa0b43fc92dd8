"""Witness policies (C2SP tlog-policy): the logs and witnesses one trusts, and how many must have seen a checkpoint.

    log <verifier key> [<url>]
    witness <name> <verifier key> [<url>]
    group <name> any|all|<k> <members>…
    quorum <name>|none

Names stand for witnesses and groups inside the file alone. A group or the quorum names what stands on lines above it,
and nothing is a member twice, so that each witness counts once.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ledger.errors import NoteInvalid, PolicyInvalid
from ledger.notes import COSIGNATURE, ED25519, Verified, VerifierKey, parse_verifier

NONE = "none"

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
_URL = re.compile(r"https?://[^/\s]\S*")
_COUNT = re.compile(r"[1-9][0-9]{0,5}")


@dataclass(frozen=True, slots=True)
class KnownLog:
    """A log whose checkpoints are accepted; its key's name is its origin."""

    key: VerifierKey
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness under its name in the policy; `url` is where checkpoints are submitted to it."""

    name: str
    key: VerifierKey
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """It saw a checkpoint when `needed` of its members did, each a witness or an earlier group."""

    name: str
    needed: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """Who is trusted.

    groups  in the order of the file: each behind its members
    quorum  the witness or group that must have seen a checkpoint; None when nobody must
    """

    logs: tuple[KnownLog, ...]
    witnesses: tuple[Witness, ...]
    groups: tuple[Group, ...]
    quorum: str | None

    @property
    def keys(self) -> tuple[VerifierKey, ...]:
        """The keys of its logs and witnesses: those to verify a note with before it is checked."""
        return (*(log.key for log in self.logs), *(witness.key for witness in self.witnesses))

    def met_by(self, signers: Iterable[VerifierKey]) -> bool:
        """Whether these keys are a quorum."""
        keys = set(signers)
        saw = {witness.name for witness in self.witnesses if witness.key in keys}
        for group in self.groups:
            if sum(member in saw for member in group.members) >= group.needed:
                saw.add(group.name)
        return self.quorum is None or self.quorum in saw

    def check(self, verified: Verified) -> None:
        """Raises NoteInvalid unless the quorum cosigned, and where the policy lists logs one of them signed. The note
        was verified with `keys` among others."""
        if self.logs and not any(log.key in verified.signers for log in self.logs):
            names = ", ".join(sorted({log.key.name for log in self.logs}))
            raise NoteInvalid(
                f"no log of the witness policy ({names}) signed this checkpoint: if the log has another key or epoch "
                "since, and you trust it, add its line `log <verifier key>` to the policy"
            )
        if not self.met_by(verified.signers):
            saw = [witness.name for witness in self.witnesses if witness.key in verified.signers]
            missing = [witness.name for witness in self.witnesses if witness.key not in verified.signers]
            raise NoteInvalid(
                f"the witness policy asks for {self.quorum}; cosigned by {', '.join(saw) or 'nobody'}, not by "
                f"{', '.join(missing)}: take the checkpoint or receipt again once the witnesses saw the log"
            )


def read_policy(path: Path) -> Policy:
    """Read the policy in a file. Raises PolicyInvalid, also when there is none that can be read."""
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyInvalid(f"the witness policy {path} cannot be read ({error}): give a text file in UTF-8") from None
    return parse_policy(text)


def parse_policy(text: str) -> Policy:
    """Read a policy file. Raises PolicyInvalid with the line, what was expected and what to do."""
    draft = _Draft()
    *lines, rest = text.split("\n")
    for number, line in enumerate(lines, start=1):
        try:
            draft.take(line)
        except (PolicyInvalid, NoteInvalid) as error:
            raise PolicyInvalid(f"line {number} of the witness policy: {error}") from None
    if rest:  # a file cut short could name a weaker quorum
        raise PolicyInvalid(f"line {len(lines) + 1} of the witness policy does not end in a line feed: add one")
    return draft.policy()


@dataclass(slots=True)
class _Draft:
    logs: list[KnownLog] = field(default_factory=list)
    witnesses: list[Witness] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    quorum: str | None = None
    names: set[str] = field(default_factory=set)
    members: set[str] = field(default_factory=set)

    def take(self, line: str) -> None:
        if _CONTROL.search(line):
            raise PolicyInvalid(
                "a control character: save the file as plain text whose lines end in line feeds alone, without returns"
            )
        words = re.split("[ \t]+", line.strip(" \t"))
        if not words[0] or words[0].startswith("#"):
            return
        match words:
            case ["log", key, *url]:
                self._log(parse_verifier(key), url)
            case ["witness", name, key, *url]:
                self._witness(name, parse_verifier(key), url)
            case ["group", name, needed, *members]:
                self._group(name, needed, members)
            case ["quorum", name]:
                self._quorum(name)
            case _:
                raise PolicyInvalid(
                    "expected `log <verifier key> [<url>]`, `witness <name> <verifier key> [<url>]`, "
                    f"`group <name> any|all|<k> <members>` or `quorum <name>|none`, not {line.strip()[:100]!r}"
                )

    def policy(self) -> Policy:
        if self.quorum is None:
            raise PolicyInvalid(
                "the witness policy has no quorum: add a line `quorum <name>` of a witness or group, or `quorum none`"
            )
        quorum = None if self.quorum == NONE else self.quorum
        return Policy(tuple(self.logs), tuple(self.witnesses), tuple(self.groups), quorum)

    def _log(self, key: VerifierKey, url: list[str]) -> None:
        if key.kind != ED25519:
            raise PolicyInvalid(f"{key.name} is a witness's key (type 4): give it a line `witness <name> …`")
        if any(key.public == other.key.public for other in self.logs):
            raise PolicyInvalid(f"the key of {key.name} is listed twice: remove one of the lines")
        self.logs.append(KnownLog(key, _url(url)))

    def _witness(self, name: str, key: VerifierKey, url: list[str]) -> None:
        if key.kind != COSIGNATURE:
            raise PolicyInvalid(
                f"{key.name} is a log's key (type 1) and not one that cosigns (type 4): ask the witness for its own"
            )
        if any(key.public == other.key.public for other in self.witnesses):
            raise PolicyInvalid(
                f"the key of {key.name} is listed twice, and would count twice: remove one of the lines"
            )
        self._define(name)
        self.witnesses.append(Witness(name, key, _url(url)))

    def _group(self, name: str, needed: str, members: list[str]) -> None:
        if not members:
            raise PolicyInvalid(f"the group {name} has no members: list witnesses or groups of the lines above")
        for member in members:
            if member not in self.names:
                raise PolicyInvalid(f"{member} is no witness or group of the lines above: define it before {name}")
            if member in self.members:
                raise PolicyInvalid(f"{member} is a member already, and would count twice: leave it out of one group")
            self.members.add(member)
        count = {"any": 1, "all": len(members)}.get(needed) or int(needed if _COUNT.fullmatch(needed) else 0)
        if not 1 <= count <= len(members):
            raise PolicyInvalid(
                f"a group asks for any, all, or 1 to {len(members)} of its members, not {needed[:40]!r}"
            )
        self._define(name)
        self.groups.append(Group(name, count, tuple(members)))

    def _quorum(self, name: str) -> None:
        if self.quorum is not None:
            raise PolicyInvalid(f"a second quorum: {self.quorum} was named above; keep one of the lines")
        if name != NONE and name not in self.names:
            raise PolicyInvalid(f"{name} is no witness or group of the lines above: define it first, or say none")
        self.quorum = name

    def _define(self, name: str) -> None:
        if name == NONE:
            raise PolicyInvalid("none means that nobody must cosign: choose another name")
        if name in self.names:
            raise PolicyInvalid(f"{name} is defined above: choose another name")
        self.names.add(name)


def _url(words: list[str]) -> str | None:
    if len(words) > 1 or (words and not _URL.fullmatch(words[0])):
        raise PolicyInvalid(f"at most one address follows, from http:// or https:// on, not {' '.join(words)[:100]!r}")
    return words[0].rstrip("/") if words else None
