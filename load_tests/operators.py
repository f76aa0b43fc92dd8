"""The operator 运营方: enrols new participants as they come, and enrols some twice, which must change nothing."""

import random
from uuid import uuid4

from locust import FastHttpUser, between, task

from load_tests.access import enrolment

REPEATED = 0.2  # of enrolments: as after an answer that did not arrive


class Operator(FastHttpUser):
    """Enrols citizens with a link and a consent."""

    weight = 1
    wait_time = between(0.1, 0.5)

    @task
    def enrol(self) -> None:
        body = enrolment(f"load newcomer {uuid4()}")
        participant_id = self._enrol(body, "enrol", 201)
        if participant_id and random.random() < REPEATED:
            self._enrol(body, "enrol, repeated", 200, participant_id)

    def _enrol(self, body: dict[str, object], name: str, status: int, known: str | None = None) -> str | None:
        """The participant's id, or None if the answer was not the expected one."""
        headers = self.environment.access.operator
        with self.client.post("/v1/participants", json=body, headers=headers, name=name, catch_response=True) as answer:
            if answer.status_code != status:
                answer.failure(f"expected {status}; came {answer.status_code} {answer.text}")
                return None
            participant_id: str = answer.json()["participant_id"]
            if known is not None and participant_id != known:
                answer.failure(f"expected the participant {known} again; came {participant_id}")
            return participant_id
