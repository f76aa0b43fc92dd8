"""Problems as HTTP answers, and the handlers that turn every error of the application into one."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.problems.faults import faults_of
from api.problems.rendering import DEFAULT_BASE, Problem, content_language, negotiate
from api.problems.table import PROBLEM_TYPES, Language

MEDIA_TYPE = "application/problem+json"

Handler = Callable[[Request, Exception], Awaitable[Response]]


def problem_response(
    problem: Problem, language: Language, base: str = DEFAULT_BASE, *, instance: str | None = None
) -> Response:
    """The HTTP answer of a problem, with Content-Language, Vary and the problem's own headers."""
    document = problem.render(language, base)
    if instance is not None:
        document["instance"] = instance
    return _response(document, problem.status, language, problem.headers)


def language_of(request: Request) -> Language:
    """The language this request is answered in."""
    return negotiate(request.headers.get("accept-language"))


def localized(language: Language) -> dict[str, str]:
    """Headers of any answer whose text depends on the language."""
    return {"Content-Language": content_language(language), "Vary": "Accept-Language"}


def install_problem_handlers(
    app: FastAPI,
    base: str = DEFAULT_BASE,
    errors: Mapping[type[Exception], Callable[[Any], Problem]] | None = None,
) -> None:
    """Answer every error of `app` as a problem. What nobody expected is left to the observability middleware.

    errors   exceptions of the lower rooms and how each becomes a problem, by type; subclasses follow their parent
    """

    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return problem_response(error, language_of(request), base)

    async def on_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return problem_response(_of_validation(error), language_of(request), base)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        language = language_of(request)
        problem = _of_http(error, request.method)
        if problem is None:
            return _plain(error, language)
        return problem_response(problem, language, base)

    def mapped(convert: Callable[[Any], Problem]) -> Handler:
        async def on_domain_error(request: Request, error: Exception) -> Response:
            return problem_response(convert(error), language_of(request), base)

        return on_domain_error

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
    for kind, convert in (errors or {}).items():
        app.add_exception_handler(kind, mapped(convert))


def openapi_problems(*slugs: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI `responses` of a route that may end with these problems, by status."""
    answers: dict[int | str, dict[str, Any]] = {}
    for slug in dict.fromkeys(slugs):
        kind = PROBLEM_TYPES[slug]
        answer = answers.setdefault(kind.status, {"description": "", "content": {MEDIA_TYPE: {"schema": _SCHEMA}}})
        answer["description"] = "; ".join(filter(None, (answer["description"], f"{kind.title.en} ({slug})")))
    return answers


_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "format": "uri"},
    },
}


def _of_validation(error: RequestValidationError) -> Problem:
    errors = error.errors()
    if errors and errors[0]["type"] == "json_invalid":
        return Problem("malformed-json", why_zh="无法解析", why_en="it cannot be parsed")
    return Problem("malformed-request", faults=faults_of(errors))


def _of_http(error: HTTPException, method: str) -> Problem | None:
    """The problem an error of the framework stands for; None for a status without a problem type of ours."""
    headers = error.headers or {}
    match error.status_code:
        case 404:
            return Problem("not-found", headers=headers)
        case 405:
            return Problem("method-not-allowed", method=method, headers=headers)
        case 400:  # FastAPI's answer to a body that it could not decode
            return Problem("malformed-json", why_zh="无法解析", why_en="it cannot be parsed", headers=headers)
        case 413:
            return Problem("payload-too-large", limit_zh="允许的", limit_en="the allowed", headers=headers)
        case 415:
            return Problem("unsupported-media-type", accepted="application/json", headers=headers)
    return None


def _plain(error: HTTPException, language: Language) -> Response:
    """A status we have no type for: about:blank, whose title is HTTP's own phrase (RFC 9457, 4.2.1)."""
    phrase = HTTPStatus(error.status_code).phrase
    document = {"type": "about:blank", "title": phrase, "status": error.status_code}
    return _response(document, error.status_code, language, error.headers or {})


def _response(document: dict[str, Any], status: int, language: Language, headers: Mapping[str, str]) -> Response:
    return Response(orjson.dumps(document), status, {**localized(language), **headers}, MEDIA_TYPE)
