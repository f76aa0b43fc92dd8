"""What a caller would rather have (RFC 7240): to wait a while for an answer that is not there yet."""

import re

from starlette.requests import Request

LONGEST_WAIT_S = 10  # a request holds a connection of the server's meanwhile, and proxies give up at a minute

_WAIT = re.compile(r"(?:^|[,;\s])wait=([0-9]{1,6})(?:$|[,;\s])")


def preferred_wait_s(request: Request) -> int:
    """`Prefer: wait=N` in whole seconds, as far as it is granted; 0 without."""
    found = _WAIT.search(request.headers.get("prefer", ""))
    return min(int(found.group(1)), LONGEST_WAIT_S) if found else 0
