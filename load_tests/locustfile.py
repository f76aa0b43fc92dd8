"""The mix of users for `make load`, against a running platform whose data directory is at hand.

make load HOST=http://127.0.0.1:8000 USERS=32 SECONDS=60; TANPUHUI_DATA_DIR where the platform's is not `.data`.
"""

import logging
import sys
from typing import Any

from locust import events
from locust.env import Environment

from load_tests.access import AccessRefused, open_access
from load_tests.operators import Operator
from load_tests.participants import Participant
from load_tests.providers import BatchProvider, SingleProvider

__all__ = ["BatchProvider", "Operator", "Participant", "SingleProvider"]  # the users that Locust finds here


@events.init.add_listener
def prepare(environment: Environment, **_: Any) -> None:
    """Register the source and enrol the riders that all users share; end here if the platform does not let us."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would tell of every enrolment
    try:
        environment.access = open_access(str(environment.host))
    except AccessRefused as refused:
        sys.exit(f"load: {refused}")
