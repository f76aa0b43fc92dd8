"""Read the Idempotency-Key of a call that moves points (draft-ietf-httpapi-idempotency-key-header-07)."""

import re

from starlette.requests import Request

from api.problems import Problem, Text

_QUOTED = re.compile(r'"([!#-\[\]-~]{1,128})"')  # a Structured Field String without escapes or blanks
_BARE = re.compile(r"[!#-\[\]-~]{1,128}")

_WHY: dict[str, Text] = {
    "absent": Text("没有此请求头", "there is none"),
    "repeated": Text("出现了不止一次", "it came more than once"),
    "malformed": Text(
        "应为引号内的 1 至 128 个可见 ASCII 字符", "it is a string of 1 to 128 visible ASCII characters, in quotes"
    ),
}


def read_idempotency_key(request: Request) -> str:
    """The key without its quotes; a bare one, as many clients send it, is the same key.

    Raises Problem idempotency-key-missing when there is none, more than one, or something else.
    """
    values = request.headers.getlist("idempotency-key")
    if len(values) != 1:
        raise _problem("repeated" if values else "absent")
    value = values[0].strip()
    quoted = _QUOTED.fullmatch(value)
    if quoted:
        return quoted[1]
    if not _BARE.fullmatch(value):
        raise _problem("malformed")
    return value


def _problem(reason: str) -> Problem:
    why = _WHY[reason]
    return Problem("idempotency-key-missing", reason=reason, why_zh=why.zh, why_en=why.en)
