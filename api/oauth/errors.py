"""The errors of OAuth: JSON of `error` and `error_description`, as RFC 6749 section 5.2 gives them.

They are the one exception to the problems of RFC 9457: clients' libraries read this form and no other.
"""

from collections.abc import Mapping

import orjson
from starlette.responses import Response

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}  # RFC 6749 section 5.1
JSON = "application/json"

# What a caller's RFC says of each, where it is not 400.
_STATUS = {"invalid_client": 401, "temporarily_unavailable": 503, "server_error": 500}


class OAuthError(Exception):
    """A refusal of the token endpoint and its neighbours.

    error         a code of RFC 6749 (5.2), 8693 (2.2.2), 9449 (5) or 9126, or `consent_required`
    description   for the client's engineer, English, ASCII without quotes and backslashes (RFC 6749, 5.2)
    """

    def __init__(self, error: str, description: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.headers = dict(headers or {})

    @property
    def status(self) -> int:
        """400, but for a client that is not known and a server that cannot answer."""
        return _STATUS.get(self.error, 400)


def error_answer(error: OAuthError) -> Response:
    """The answer to the client."""
    body = orjson.dumps({"error": error.error, "error_description": error.description})
    return Response(body, error.status, NO_STORE | error.headers, JSON)
