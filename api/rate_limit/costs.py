"""What calls cost that make more work than others, as units of the quota of requests. Every other call costs one."""

from starlette.requests import Request

FAILURE = 5  # charged to the address of a request whose token, key or assertion is refused: guessing is dear
ESTIMATE = 25  # arithmetic that anybody may ask for without a token

# By method and the path's template. Each is a page or a document that is put together when asked for.
COSTS: dict[tuple[str, str], int] = {
    ("GET", "/v1/participants/{participant_id}/statement"): 2,
    ("GET", "/v1/participants/{participant_id}/transfers/{transfer_id}"): 2,
    ("GET", "/v1/participants/{participant_id}/redemptions"): 2,
    ("GET", "/v1/participants/{participant_id}/offers"): 2,
    ("GET", "/v1/registers/{register}"): 10,
    ("POST", "/v1/registers/{register}/imports"): 10,
    ("GET", "/v1/settlements/due"): 10,
    ("POST", "/v1/manifests"): 10,
    ("GET", "/v1/manifests"): 10,
    ("GET", "/v1/statements/{day}/reconciliation"): 10,
    ("POST", "/v1/statements/{day}/files"): 10,
    ("GET", "/v1/liability"): 50,
    ("GET", "/v1/audit/bundle"): 50,
    ("GET", "/v1/audit/evidence/{path}"): 20,
    ("GET", "/v1/audit/calls/{path}"): 20,
    ("GET", "/v1/audit/reports/{path}"): 20,
    ("GET", "/v1/audit/checkpoints"): 20,
    ("GET", "/v1/audit/manifests"): 20,
    ("GET", "/v1/audit/keys"): 20,
    ("GET", "/v1/audit/totals"): 20,
    ("GET", "/v1/me/export"): 100,
    ("GET", "/v1/me/wards/{guardianship_id}/export"): 100,
    ("POST", "/v1/me/wards"): 50,  # it takes a code that somebody was shown: guessing is dear
}


def units_of(request: Request) -> int:
    """What this call costs, by the route that answers it."""
    return COSTS.get((request.scope["method"], template_of(request)), 1)


def template_of(request: Request) -> str:
    """The path template of the route that answers; of a route in an included router FastAPI keeps the whole template,
    prefix and all, in a place of its own."""
    included = request.scope.get("fastapi", {}).get("effective_route_context")
    path = getattr(included, "path_format", None)
    return path if isinstance(path, str) else ""
