"""Data providers 数据方: one sends its rides in batches, one sends each as it ends, and now and then twice."""

import random
from uuid import uuid4

import orjson
from locust import FastHttpUser, between, task

from load_tests.access import Access
from load_tests.events import BATCH, EVENT, ride

BATCH_ITEMS = 200
REPEATED = 0.1  # of single posts: as after an answer that did not arrive


def _new_ride(access: Access, chance: random.Random) -> bytes:
    return orjson.dumps(ride(f"load-{uuid4()}", chance.choice(access.riders).subject, chance))


class BatchProvider(FastHttpUser):
    """Sends what has gathered, and expects an outcome for every ride."""

    weight = 1
    wait_time = between(0.2, 1)

    def on_start(self) -> None:
        self.chance = random.Random()
        self.headers = {**self.environment.access.provider, "Content-Type": BATCH}

    @task
    def report_batch(self) -> None:
        rides = [_new_ride(self.environment.access, self.chance) for _ in range(BATCH_ITEMS)]
        body = b"[" + b",".join(rides) + b"]"
        with self.client.post(
            "/v1/activities", data=body, headers=self.headers, name="batch", catch_response=True
        ) as answer:
            if answer.status_code != 200:
                answer.failure(f"expected 200; came {answer.status_code} {answer.text}")
            elif (counts := answer.json()["counts"])["credited"] != BATCH_ITEMS:
                answer.failure(f"expected {BATCH_ITEMS} credited; came {counts}")


class SingleProvider(FastHttpUser):
    """Sends each ride by itself; some a second time, which must get the first answer again."""

    weight = 4
    wait_time = between(0.02, 0.1)

    def on_start(self) -> None:
        self.chance = random.Random()
        self.headers = {**self.environment.access.provider, "Content-Type": EVENT}

    @task
    def report_one(self) -> None:
        body = _new_ride(self.environment.access, self.chance)
        first = self._report(body, "single", 201)
        if first is not None and self.chance.random() < REPEATED:
            self._report(body, "single, repeated", 200, first)

    def _report(self, body: bytes, name: str, status: int, first: object = None) -> object:
        """Post one ride; its outcome, or None if the answer was not the expected one."""
        with self.client.post(
            "/v1/activities", data=body, headers=self.headers, name=name, catch_response=True
        ) as answer:
            if answer.status_code != status:
                answer.failure(f"expected {status}; came {answer.status_code} {answer.text}")
                return None
            outcome: dict[str, object] = answer.json()
            if first is not None and outcome.get("first") != first:
                answer.failure(f"expected the first answer {first} again; came {outcome}")
            return outcome
