"""Read a request's body, bounded, and parse JSON exactly."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from api.problems import Problem


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, at most `limit` bytes.

    A body declared larger is refused before a byte of it is read; one that grows larger is dropped on the way. Raises
    Problem payload-too-large or unsupported-media-type (a Content-Encoding would hide the true size), ClientDisconnect.
    """
    headers = request.headers
    declared = headers.get("content-length")
    if declared is not None and declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
        raise Problem("payload-too-large", limit=limit, headers={"Connection": "close"})
    if headers.get("content-encoding", "identity") != "identity":
        raise Problem("unsupported-media-type", accepted="identity (Content-Encoding)")
    message = await request.receive()
    if message["type"] == "http.request" and not message.get("more_body", False):  # the usual case: all in one piece
        return _within(message.get("body", b""), limit)
    pieces = bytearray()
    while message["type"] == "http.request":
        pieces += message.get("body", b"")
        _within(pieces, limit)
        if not message.get("more_body", False):
            return bytes(pieces)
        message = await request.receive()
    raise ClientDisconnect


def _within(body: bytes | bytearray, limit: int) -> bytes:
    if len(body) > limit:
        raise Problem("payload-too-large", limit=limit, headers={"Connection": "close"})
    return bytes(body)


def media_type(headers: Mapping[str, str]) -> str:
    """The Content-Type without parameters, in lower case; empty when there is none.

    Raises Problem unsupported-media-type for a charset other than UTF-8.
    """
    name, _, parameters = headers.get("content-type", "").partition(";")
    if "charset" in parameters.lower() and "utf-8" not in parameters.lower():
        raise Problem("unsupported-media-type", accepted="charset=utf-8")
    return name.strip().lower()


def parse_json(body: bytes) -> Any:
    """JSON with every number exact: int or Decimal, never float. A repeated key, NaN and Infinity are refused.

    Raises Problem malformed-json, which repeats nothing of the body.
    """
    try:
        return _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _malformed(f"第 {error.start} 字节不是 UTF-8", f"byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise _malformed(f"第 {error.pos} 个字符处有误", f"it goes wrong at character {error.pos}") from None
    except RecursionError:
        raise _malformed("嵌套过深", "it is nested too deeply") from None
    except _RepeatedKeyError:
        raise _malformed("对象中有重复的键", "an object repeats a key") from None
    except (ValueError, ArithmeticError):  # thousands of digits, NaN, or an exponent beyond all decimals
        raise _malformed("数字无法表示", "a number cannot be represented") from None


class _RepeatedKeyError(Exception):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):  # two readers would take different values
        raise _RepeatedKeyError
    return found


def _refuse(_constant: str) -> NoReturn:
    raise ValueError


_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=_refuse, object_pairs_hook=_object)


def _malformed(zh: str, en: str) -> Problem:
    return Problem("malformed-json", why_zh=zh, why_en=en)
