"""What an answer must be, whatever was asked: documented, whole, and nobody else's."""

import re
from collections.abc import Mapping
from typing import Any

import httpx
from jsonschema_rs import Draft202012Validator

from api.problems import MEDIA_TYPE, PROBLEM_TYPES

_SLUG = re.compile(r"\(([a-z0-9-]+)\)")
_BY_TYPE = {kind.uri or f"urn:tanpuhui:problem:{slug}": slug for slug, kind in PROBLEM_TYPES.items()}
# What the framework says before any route is asked: the address or the method is none of ours.
UNROUTED = frozenset({"not-found", "method-not-allowed"})


class Judge:
    """Holds answers against the OpenAPI document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._validators: dict[str, Draft202012Validator] = {}

    def faults(self, method: str, template: str, answer: httpx.Response) -> list[str]:
        """What is wrong with an answer to an operation of the document, in words; empty when nothing is."""
        operation = self._document["paths"][template][method.lower()]
        status, kind = str(answer.status_code), answer.headers.get("content-type", "").partition(";")[0]
        if answer.status_code >= 500 and not _may_be_away(template, answer):
            return [f"{status}: a fault of ours"]
        slug = _BY_TYPE.get(answer.json().get("type", "")) if kind == MEDIA_TYPE else None
        if kind == MEDIA_TYPE and slug is None:
            return [f"a problem of no type of ours: {answer.text[:200]}"]
        if slug in UNROUTED and not _routed(template, answer.request.url.raw_path.partition(b"?")[0].decode("ascii")):
            return []
        described = operation["responses"].get(status)
        if described is None:
            return [f"{status} ({slug or kind}) is not documented"]
        if slug is not None:
            named = _SLUG.findall(described["description"])
            return [] if slug in named else [f"{status} documents {', '.join(named)}, not {slug}"]
        return self._content_faults(described, kind, answer)

    def _content_faults(self, described: Mapping[str, Any], kind: str, answer: httpx.Response) -> list[str]:
        content = described.get("content", {})
        if not content:
            return [f"{answer.status_code} documents no content, and there is {kind}"] if answer.content else []
        if kind not in content:
            return [f"{answer.status_code} documents {', '.join(content)}, not {kind}"]
        schema = content[kind].get("schema")
        if not schema or not kind.endswith("json"):
            return []
        return [
            f"{answer.status_code} is not as documented: {error.message} at {list(error.instance_path)}"
            for error in self._validator(schema).iter_errors(answer.json())
        ]

    def _validator(self, schema: Mapping[str, Any]) -> Draft202012Validator:
        key = repr(schema)
        if key not in self._validators:
            whole = {**schema, "components": self._document["components"]}
            self._validators[key] = Draft202012Validator(whole, validate_formats=True)
        return self._validators[key]


def _may_be_away(template: str, answer: httpx.Response) -> bool:
    """No publisher runs beside these tests: whoever asks for the log's state is told that it is away."""
    return answer.status_code == 503 and template in {"/v1/health/ready", "/v1/health/lag", "/v1/log"}


def _routed(template: str, path: str) -> bool:
    """Whether the address is one of this operation's."""
    pattern = template.replace("{path}", ".+").replace("{epoch}", "[0-9]+")
    return re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", pattern), path) is not None
