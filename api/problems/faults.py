"""Several faults of one request or event, each with a JSON Pointer: the `errors` member of a problem.

A fault says where and what was expected, never what came: the value may be personal and would end in somebody's log.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from api.problems.table import Language, Text

MOST_FAULTS = 20  # a longer list helps nobody, and a hostile body could make it endless


@dataclass(frozen=True, slots=True)
class Fault:
    """One place and what is wrong there.

    where     body, query, path or header
    pointer   JSON Pointer (RFC 6901) from the root of the body or event; the plain name of a parameter or header
    code      a key of FAULTS
    """

    pointer: str
    code: str
    limits: Mapping[str, str] = field(default_factory=dict)
    where: str = "body"

    def render(self, language: Language) -> dict[str, str]:
        text = getattr(FAULTS.get(self.code, FAULTS["invalid"]), language)
        detail = text.format_map(_Limits(self.limits))
        place = "pointer" if self.where == "body" else "parameter"
        return {"detail": detail, place: self.pointer, "where": self.where, "code": self.code}


FAULTS: dict[str, Text] = {
    "missing": Text("缺少此项", "is missing"),
    "unexpected": Text("不应有此项", "is not expected here"),
    "wrong-type": Text("类型应为 {expected}", "must be {expected}"),
    "wrong-value": Text("应为 {expected}", "must be {expected}"),
    "bad-format": Text("格式应为 {expected}", "must have the form {expected}"),
    "too-short": Text("过短，至少 {limit}", "is too short; at least {limit}"),
    "too-long": Text("过长，至多 {limit}", "is too long; at most {limit}"),
    "too-small": Text("过小，应不小于 {limit}", "is too small; at least {limit}"),
    "too-large": Text("过大，应不大于 {limit}", "is too large; at most {limit}"),
    "overlaps": Text("与 {other} 的日期重叠", "overlaps the days of {other}"),
    "repeated": Text("与 {other} 相同", "repeats {other}"),
    "code-length": Text(
        "统一社会信用代码应为 {expected} 个字符", "a unified social credit code has {expected} characters"
    ),
    "code-character": Text("第 {position} 位应为 {expected}", "its character {position} must be one of {expected}"),
    "code-check": Text(
        "第 {position} 位校验码应为 {expected}，请核对各位字符",
        "its check character, the {position}th, would have to be {expected}: look for a mistyped character",
    ),
    "readings-invalid": Text("读数无法采用：{why_zh}", "the readings cannot be taken: {why}"),
    "invalid": Text("内容无效", "is not valid"),
}

# pydantic's error types, to ours: (code, name of our limit, where pydantic keeps it or a fixed text)
_FROM_PYDANTIC: dict[str, tuple[str, str | None]] = {
    "missing": ("missing", None),
    "extra_forbidden": ("unexpected", None),
    "literal_error": ("wrong-value", "expected"),
    "enum": ("wrong-value", "expected"),
    "string_too_short": ("too-short", "min_length"),
    "string_too_long": ("too-long", "max_length"),
    "too_short": ("too-short", "min_length"),
    "too_long": ("too-long", "max_length"),
    "greater_than": ("too-small", "gt"),
    "greater_than_equal": ("too-small", "ge"),
    "less_than": ("too-large", "lt"),
    "less_than_equal": ("too-large", "le"),
    "string_pattern_mismatch": ("bad-format", "pattern"),
}
_EXPECTED_TYPES: tuple[tuple[str, str, str], ...] = (
    ("string", "wrong-type", "string"),
    ("int", "wrong-type", "integer"),
    ("float", "wrong-type", "number"),
    ("decimal", "wrong-type", "number"),
    ("bool", "wrong-type", "boolean"),
    ("list", "wrong-type", "array"),
    ("dict", "wrong-type", "object"),
    ("model", "wrong-type", "object"),
    ("uuid", "bad-format", "UUID"),
    ("datetime", "bad-format", "RFC 3339"),
    ("timezone", "bad-format", "RFC 3339, with an offset"),
    ("date", "bad-format", "YYYY-MM-DD"),
    ("url", "bad-format", "URI"),
)


class _Limits(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "?"


def faults_of(errors: Iterable[Mapping[str, Any]]) -> list[Fault]:
    """Faults from pydantic's `ValidationError.errors()`, or FastAPI's, at most MOST_FAULTS.

    FastAPI's locations begin with body, query, path or header.
    """
    return [_fault(error) for error, _ in zip(errors, range(MOST_FAULTS), strict=False)]


def _fault(error: Mapping[str, Any]) -> Fault:
    location: Sequence[str | int] = error["loc"]
    where = "body"
    if location and location[0] in {"body", "query", "path", "header"}:
        where, location = str(location[0]), location[1:]
    place = pointer(*location) if where == "body" else ".".join(map(str, location))
    code, limits = _reason(error["type"], error.get("ctx", {}))
    return Fault(place, code, limits, where)


def _reason(kind: str, context: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    if kind in FAULTS and kind not in _FROM_PYDANTIC:  # a validator of ours named it, by PydanticCustomError
        return kind, {name: str(value) for name, value in context.items()}
    if kind in _FROM_PYDANTIC:
        code, key = _FROM_PYDANTIC[kind]
        if key is None:
            return code, {}
        return code, {"expected" if key in {"expected", "pattern"} else "limit": str(context.get(key, "?"))}
    for prefix, code, expected in _EXPECTED_TYPES:
        if kind.startswith(prefix):
            return code, {"expected": expected}
    return "invalid", {}


def pointer(*steps: str | int) -> str:
    """A JSON Pointer; no step is the whole document. A step that a client made up is cut to 100 characters."""
    return "".join("/" + str(step)[:100].replace("~", "~0").replace("/", "~1") for step in steps)
