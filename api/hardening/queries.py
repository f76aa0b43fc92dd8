"""Query parameters: known ones, once. A filter that is misspelt must not silently answer everything."""

from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from api.problems import Fault, Problem

MOST_PARAMETERS = 32


def require_known_query(request: Request) -> None:
    """Raises Problem malformed-request for a parameter that the route does not have, or one that comes twice."""
    query = request.scope["query_string"]
    if not query:
        return
    context = request.scope.get("fastapi", {}).get("effective_route_context")
    if context is None:
        return
    known = _known(context.original_route)
    seen: set[str] = set()
    faults = []
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MOST_PARAMETERS)
    except ValueError:
        limit = {"limit": str(MOST_PARAMETERS)}
        raise Problem("malformed-request", faults=[Fault("", "too-long", limit, "query")]) from None
    for name, _ in pairs:
        if name not in known:
            faults.append(Fault(name[:100], "unexpected", {}, "query"))
        elif name in seen and not known[name]:
            faults.append(Fault(name, "repeated", {"other": name}, "query"))
        seen.add(name)
    if faults:
        raise Problem("malformed-request", faults=faults[:20])


# By the route's function, as many as there are.
_KNOWN: dict[Any, dict[str, bool]] = {}


def _known(route: Any) -> dict[str, bool]:
    """The parameters of a route, and whether each may come more than once."""
    known = _KNOWN.get(route.endpoint)
    if known is None:
        parameters = route.dependant.query_params
        known = _KNOWN[route.endpoint] = {each.alias: _is_list(each.field_info.annotation) for each in parameters}
    return known


def _is_list(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) in (list, set, tuple, frozenset)
